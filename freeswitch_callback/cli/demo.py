"""Commands that need no FreeSWITCH: demo (simulator, database and engine in one go) and simulate."""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import gevent
from gevent.event import Event

from freeswitch_callback.cli import output
from freeswitch_callback.config_values import Wrong, as_address
from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.daemon import Engine, EngineRules, NodeAddress
from freeswitch_callback.engine.stderr import log_to_stderr
from freeswitch_callback.errors import ConfigurationError
from freeswitch_callback.ledger import Filter, Ledger, Summary

if TYPE_CHECKING:
    from rich.table import Table

    from freeswitch_callback.simulator import Simulator
    from freeswitch_callback.simulator.day import Day

_MIN_TALK = 2.0
_ROWS = 20
_REFRESH = 0.25

# A minute is short: what takes minutes in earnest takes seconds here.
_RULES = EngineRules(
    capture=CaptureRules(),
    gates=lambda queue: GateRules(min_wait=1.0, expire=3600.0),
    recall=lambda queue: RecallRules(
        dial_string="sofia/gateway/main/{number}",
        caller_id_number="+12025559999",
        ring_timeout=6.0,
        agent_rest=5.0,
        retry=RetryRules(
            attempts=3, retry={"busy": 8.0, "no_answer": 12.0, "failed": 10.0}, min_talk=_MIN_TALK
        ),
    ),
    poll=1.0,
)


@contextmanager
def _until_stopped() -> Iterator[Event]:
    """A flag that Ctrl-C and SIGTERM set."""
    stopped = Event()
    before = {n: signal.signal(n, lambda *_: stopped.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, int]:
    try:
        return as_address(text)
    except Wrong as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Who calls when, and what they do.")
@click.option("--seconds", type=click.IntRange(5, 3600), default=60, show_default=True)
@click.option("--agents", type=click.IntRange(1, 50), default=4, show_default=True)
@click.option(
    "--listen",
    metavar="ADDRESS",
    default="127.0.0.1:8088",
    show_default=True,
    callback=_address,
    help="Where the pages are; port 0: any that is free.",
)
@click.option("--database", metavar="URL", help="Keep the records there (default: a file that is deleted).")
def demo(seed: int, seconds: int, agents: int, listen: tuple[str, int], database: str | None) -> None:
    """A busy minute, in real time: callers give up, agents get free, clients are called back.

    A simulated FreeSWITCH, a database and the engine in one go; needs no FreeSWITCH and no root. Ends after a
    minute or at Ctrl-C with a summary, read from the database, with the simulator's own counts beside it.

    \b
    freeswitch-callback demo --seconds 30 --agents 2
    """
    from freeswitch_callback.simulator import Simulator
    from freeswitch_callback.simulator.day import busy

    log_to_stderr("error")
    simulator = Simulator(seed=seed)
    with tempfile.TemporaryDirectory(prefix="freeswitch-callback-") as folder, _until_stopped() as stopped:
        url = database or f"sqlite://{Path(folder) / 'demo.db'}"
        ledger = Ledger(url)
        port = simulator.start()
        engine = Engine(ledger, [NodeAddress("demo", "127.0.0.1", port, simulator.password)], _RULES)
        running = gevent.spawn(engine.run)
        try:
            gevent.wait([engine.ready, running], count=1)
            if running.ready():
                running.get()  # why it did not start
            day = busy(
                simulator,
                seed,
                float(seconds),
                agents,
                callers_per_minute=40.0,
                patience=5.0,
                talk=(2.0, 5.0),
            )
            with _pages(engine, ledger, url, listen, day.agents[0]):
                _watch(ledger, seconds, stopped, running)
            engine.stop()
            running.get()
            _summary(ledger.summary(), simulator, day)
        finally:
            engine.stop()
            running.join(10)
            simulator.stop()
            ledger.close()


@contextmanager
def _pages(engine: Engine, ledger: Ledger, url: str, listen: tuple[str, int], agent: str) -> Iterator[None]:
    """The pages, with an operator and a supervisor whose passwords are printed. Where the port is taken, any
    other."""
    from freeswitch_callback.cli.website import served
    from freeswitch_callback.core.access import Role
    from freeswitch_callback.operations import accounts
    from freeswitch_callback.web.process import PagesProcess
    from freeswitch_callback.web.site import Settings

    users = [
        accounts.NewUser("operator", Role.OPERATOR, agent=agent),
        accounts.NewUser("supervisor", Role.SUPERVISOR),
    ]
    passwords = [secrets.token_urlsafe(9) for _ in users]
    for user, password in zip(users, passwords, strict=True):
        if ledger.people.user(user.name) is not None:  # of an earlier demo in the same database
            ledger.people.remove_user(user.name, "demo")
        accounts.add_user(ledger, user, password, "demo")

    def process(at: tuple[str, int]) -> PagesProcess:
        return PagesProcess(engine, url, None, Settings(), at, log_level="error")

    with ExitStack() as serving:
        try:
            pages = serving.enter_context(served(process(listen)))
        except ConfigurationError as error:
            click.echo(f"{error}; taking another port", err=True)
            pages = serving.enter_context(served(process((listen[0], 0))))
        click.echo(f"Pages: {pages.address}")
        for user, password in zip(users, passwords, strict=True):
            click.echo(f"  log in as {user.name:<10}  with {password}")
        yield


def _watch(ledger: Ledger, seconds: int, stopped: Event, running: gevent.Greenlet) -> None:
    """Show what happens until the time is over, somebody has seen enough, or the engine has failed."""
    deadline = time.monotonic() + seconds
    on_screen = sys.stdout.isatty()
    newest = Filter(limit=_ROWS if on_screen else 1000)
    with _screen() if on_screen else _lines() as update:
        while not running.ready() and (left := deadline - time.monotonic()) > 0:
            update(list(ledger.listing(newest)), left)
            if stopped.wait(min(_REFRESH, left)):
                break
        update(list(ledger.listing(newest)), 0.0)


Update = Callable[[list[Any], float], None]


@contextmanager
def _screen() -> Iterator[Update]:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda rows, left: live.update(_table(rows, left), refresh=True)


def _table(rows: list[Any], left: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    ends = f"{left:.0f} s left, Ctrl-C ends it" if left else "over"
    table = Table(
        title=f"Missed calls, the newest first ({ends})", box=None, pad_edge=False, header_style="bold"
    )
    for column, justify in (
        ("id", "right"),
        ("number", "left"),
        ("waited", "right"),
        ("why", "left"),
        ("tried", "right"),
        ("what became of it", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    styles = {"closed": "green", "connected": "bold green", "dialling": "yellow", "claimed": "yellow"}
    for row in rows:
        style = "red" if row["closed_as"] in ("exhausted", "blocked") else styles.get(row["state"], "")
        table.add_row(
            str(row["id"]),
            Text(output.printable(row["phone"])),
            f"{row['timewait']} s",
            row["reason"],
            str(row["attempts"]),
            Text(_became(row), style=style),
        )
    return table


def _became(row: Any) -> str:
    if row["state"] == "closed":
        by = (
            f" by {row['recalloperator']}" if row["recalloperator"] and row["closed_as"] == "recalled" else ""
        )
        why = f": {row['note']}" if row["closed_as"] == "blocked" else ""
        return output.printable(f"{row['closed_as']}{by}{why}")
    if row["state"] == "waiting" and row["attempts"]:
        return "waiting for the next try"
    return str(row["state"])


@contextmanager
def _lines() -> Iterator[Update]:
    """Where nobody looks at a screen: a line for each thing that becomes of a call."""
    seen: dict[int, str] = {}
    began = time.monotonic()

    def update(rows: list[Any], left: float) -> None:
        for row in reversed(rows):
            became = _became(row)
            if seen.get(row["id"]) != became:
                seen[row["id"]] = became
                at = time.monotonic() - began
                click.echo(
                    f"{at:5.1f} s  {row['id']:3}  {output.printable(row['phone'])}  "
                    f"waited {row['timewait']} s, {row['reason']}: {became}"
                )

    yield update


def _summary(summary: Summary, simulator: Simulator, day: Day) -> None:
    """One figure a line, the database's; in brackets what the simulator saw happen."""
    dialled = {d.number: d.at for d in reversed(simulator.dialled)}  # when first
    reached = {
        talk.number
        for talk in simulator.talks
        if talk.number in dialled and talk.started >= dialled[talk.number] and talk.seconds >= _MIN_TALK
    }
    median = "-" if summary.median_wait is None else f"{summary.median_wait:.0f} s"
    click.echo()
    click.echo(f"missed: {summary.missed}  (simulator: {day.unserved} callers whom nobody answered)")
    click.echo(f"called back: {summary.called_back}  (simulator: {len(reached)} clients reached)")
    click.echo(f"median wait until called: {median}")
    for title, counts in (
        ("reason", summary.by_reason),
        ("outcome", summary.by_outcome),
        ("closed as", summary.by_closed_as),
        ("now", summary.by_state),
    ):
        for name, count in sorted(counts.items()):
            click.echo(f"{title} {name}: {count}")
    worst = max((simulator.most_live_calls(number) for number in dialled), default=0)
    click.echo(f"most calls to one client at the same time: {worst}  (simulator)")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8021, show_default=True)
@click.option("--password", default="ClueCon", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Who calls when, and what they do.")
@click.option("--agents", type=click.IntRange(1, 1000), default=3, show_default=True)
@click.option(
    "--callers", type=click.FloatRange(0.1, 6000), default=20.0, show_default=True, help="Calls a minute."
)
@click.option("--seconds", type=click.IntRange(min=1), help="Stop after so long (default: at Ctrl-C).")
def simulate(
    host: str, port: int, password: str, seed: int, agents: int, callers: float, seconds: int | None
) -> None:
    """Be a FreeSWITCH: Event Socket, mod_callcenter, callers, agents and clients.

    \b
    freeswitch-callback simulate          in one terminal
    freeswitch-callback run               in another
    """
    from freeswitch_callback.simulator import Simulator
    from freeswitch_callback.simulator.day import busy

    simulator = Simulator(seed=seed, password=password)
    try:
        listening = simulator.start(host, port)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {error.strerror}; name another --port"
        ) from error
    click.echo(
        f"a FreeSWITCH on {host}:{listening}, password {password}, queue support@default; Ctrl-C ends it"
    )
    deadline = time.monotonic() + seconds if seconds else float("inf")
    shown = 0
    with _until_stopped() as stopped:
        day = busy(simulator, seed, float(seconds or "inf"), agents, callers_per_minute=callers)
        while time.monotonic() < deadline and not stopped.wait(
            min(1.0, max(0.0, deadline - time.monotonic()))
        ):
            for dialled in simulator.dialled[shown:]:
                click.echo(f"dialled {dialled.number}")
            shown = len(simulator.dialled)
    simulator.stop()
    click.echo(f"called in: {day.called_in}")
    click.echo(f"nobody answered: {day.unserved}")
    click.echo(f"clients dialled: {len(simulator.dialled)}")
