"""The pages' process beside its engine: what it is told, and what happens when either is gone or stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from freeswitch_callback.cli.website import served
from freeswitch_callback.core.access import Scope
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.alarms import Name
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.errors import ConfigurationError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import accounts
from freeswitch_callback.web import process, teller
from freeswitch_callback.web.messages import News
from freeswitch_callback.web.pipe import Pipe
from freeswitch_callback.web.process import PagesProcess
from freeswitch_callback.web.site import Settings
from tests.acceptance.conftest import SUPPORT, House, Shell
from tests.acceptance.test_web import Served, port_free

AGENT = "1001@default"


@pytest.fixture
def engine(house: House) -> Engine:
    return house.engine()


@pytest.fixture
def pages(house: House, engine: Engine) -> Iterator[PagesProcess]:
    with served(PagesProcess(engine, house.url, None, Settings(), ("127.0.0.1", 0))) as running:
        yield running


@pytest.fixture
def asks(house: House, pages: PagesProcess) -> Served:
    return Served(f"{pages.address}/api/v1", accounts.add_token(house.ledger, "test", Scope.ADMIN, "root"))


def status_of(url: str) -> int:
    """Of an answer; 0 where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def there(pid: int) -> bool:
    """Whether a process runs: one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def raised(engine: Engine) -> list[tuple[Name, str]]:
    return [(alarm.name, alarm.where) for alarm in engine.alarms.active()]


# --- what it is told -----------------------------------------------------------------------------------


def test_what_changes_in_the_engine_is_shown(asks: Served, house: House, sim: Any):
    def state(agent: str) -> tuple[str, str]:
        return next(
            (row["status"], row["queues"]) for row in asks("/agents")["items"] if row["agent"] == agent
        )

    assert state(AGENT) == ("Logged Out", SUPPORT)
    house.free(AGENT)
    house.until(lambda: state(AGENT)[0] == "Available")
    assert state("1002@default")[0] == "Logged Out"
    call = sim.call("+12025550177", to="3000", name="Zoë")
    house.until(lambda: asks("/state")["callers"] == {SUPPORT: 1})
    call.hang_up()
    house.until(lambda: asks("/state")["callers"] == {SUPPORT: 0})


def test_figures_are_the_engines(house: House, engine: Engine, pages: PagesProcess):
    pages.settings = Settings(open_metrics=True)

    def metrics() -> str:
        try:
            with urllib.request.urlopen(f"{pages.address}/metrics", timeout=10) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError:
            return ""

    house.gave_up()
    house.until(lambda: f'missed_total{{queue="{SUPPORT}",reason="abandoned"}} 1.0' in metrics())
    [started] = [line for line in metrics().splitlines() if line.startswith("process_start_time_seconds")]
    since = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    boot = next(line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    assert float(started.split()[1]) == pytest.approx(float(boot) + int(since) / os.sysconf("SC_CLK_TCK"))


def test_other_rules_reach_it(house: House, engine: Engine, asks: Served):
    number = {"number": "+4930901820", "queue": SUPPORT}
    assert asks("/missed", number)["id"]
    assert house.rows()[0]["closed_as"] == "blocked"
    german = GateRules(numbers=NumberRules(allow=frozenset({"DE"})))
    engine.reload(replace(engine.rules, gates=lambda queue: german))

    def allowed() -> bool:
        asks("/missed", number)
        return any(row["closed_as"] is None for row in house.rows())

    house.until(allowed)


# --- what it takes with it, and what not ---------------------------------------------------------------


def test_calls_go_first_and_no_secret_is_on_a_command_line(house: House, pages: PagesProcess):
    def niceness(pid: int | str) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])

    assert niceness(pages.pid) > niceness("self")
    line = Path(f"/proc/{pages.pid}/cmdline").read_bytes()
    assert house.url.encode() not in line


def test_an_engine_needs_nothing_that_pages_are_made_with():
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import sys\n"
        "from freeswitch_callback.cli import demo, service, website\n"
        "print([name for name in ('flask', 'jinja2', 'werkzeug', 'gevent.pywsgi') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_pages_that_are_killed_are_back_where_they_were(
    house: House, engine: Engine, pages: PagesProcess, asks: Served
):
    address, killed = pages.address, pages.pid
    os.kill(killed, signal.SIGKILL)
    house.until(lambda: raised(engine) == [(Name.PAGES_AWAY, address)])
    assert engine.alarms.active()[0].text == "killed by SIGKILL"
    house.missed()
    house.free()
    house.row(closed_as="recalled")
    house.until(lambda: raised(engine) == [])
    assert pages.address == address
    assert pages.pid != killed
    assert asks("/state")["ready"]


def test_pages_that_cannot_come_back_are_tried_again_later_each_time(
    house: House, engine: Engine, pages: PagesProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process, "FIRST_PAUSE", 0.2)
    tries: list[float] = []
    begin = PagesProcess._begin

    def fails(self: PagesProcess) -> None:
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise ConfigurationError("web.listen: cannot listen")
        begin(self)

    monkeypatch.setattr(PagesProcess, "_begin", fails)
    os.kill(pages.pid, signal.SIGKILL)
    house.until(lambda: any(alarm.text == "web.listen: cannot listen" for alarm in engine.alarms.active()))
    house.until(lambda: raised(engine) == [])
    assert len(tries) == 4
    assert tries[3] - tries[2] > 2 * (tries[1] - tries[0])


def test_pages_that_stand_still_hold_nothing_up_and_nothing_piles_up_for_them(
    house: House, engine: Engine, pages: PagesProcess, asks: Served, monkeypatch: pytest.MonkeyPatch
):
    looks: list[None] = []
    look = teller.Changes.look

    def counted(self: Any) -> Iterator[News]:
        looks.append(None)
        return look(self)

    sent: list[object] = []
    send = Pipe.send
    monkeypatch.setattr(teller.Changes, "look", counted)
    monkeypatch.setattr(Pipe, "send", lambda self, message: (sent.append(message), send(self, message))[1])
    os.kill(pages.pid, signal.SIGSTOP)
    try:
        for number in range(200):
            house.sim.set_status("1002@default", "On Break" if number % 2 else "Logged Out")
        house.until(lambda: pages._teller is not None and pages._teller.waits)
        at_most = len(sent), len(looks)
        house.missed()
        house.free()
        house.row(closed_as="recalled")
        for number in range(200):
            house.sim.set_status("1002@default", "On Break" if number % 2 else "Logged Out")
        board = engine.sites[0].recaller.switchboard
        house.until(lambda: board.agents["1002@default"].status == "On Break")
        assert (len(sent), len(looks)) == at_most
    finally:
        os.kill(pages.pid, signal.SIGCONT)
    house.until(lambda: "On Break" in {row["status"] for row in asks("/agents")["items"]})
    assert raised(engine) == []


def test_pages_that_stand_still_for_long_are_replaced(
    house: House, engine: Engine, pages: PagesProcess, monkeypatch: pytest.MonkeyPatch
):
    for name, seconds in (("_TURN", 0.1), ("SILENT_AFTER", 0.3), ("HANGS_AFTER", 2.0), ("_ENDS_WITHIN", 0.1)):
        monkeypatch.setattr(process, name, seconds)
    hangs = pages.pid
    os.kill(hangs, signal.SIGSTOP)
    house.until(lambda: [alarm.text for alarm in engine.alarms.active()] == ["takes nothing in"])
    house.until(lambda: pages.pid not in (0, hangs) and raised(engine) == [])
    assert not there(hangs)
    assert status_of(f"{pages.address}/healthz") == 200


# --- as programs -----------------------------------------------------------------------------------------


class Run:
    """`run` as a program, with pages."""

    def __init__(self, shell: Shell) -> None:
        self.url = f"http://127.0.0.1:{port_free()}"
        self.shell = shell
        self.before = shell.path.read_text()
        self.configure()
        command = [sys.executable, "-m", "freeswitch_callback", "--config", str(shell.path), "run"]
        self.program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def configure(self, **web: str) -> None:
        keys = {"listen": f'"{self.url.removeprefix("http://")}"'} | web
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
        self.shell.path.write_text(f"{self.before}[web]\n{lines}")

    @property
    def pages(self) -> int:
        """The process that serves them."""
        pid = self.program.pid
        told = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
        [child] = [
            int(one) for one in told.split()
            if b"freeswitch_callback.web" in Path(f"/proc/{one}/cmdline").read_bytes()
        ]  # fmt: skip
        return child

    def ends(self) -> tuple[int, str]:
        _, said = self.program.communicate(timeout=20)
        return self.program.returncode, said


@contextmanager
def running(house: House, shell: Shell) -> Iterator[Run]:
    run = Run(shell)
    try:
        house.until(lambda: status_of(f"{run.url}/readyz") == 200, 30.0)
        yield run
    finally:
        run.program.kill()
        run.program.communicate()


def test_pages_end_when_their_engine_is_killed(house: House, shell: Shell):
    with running(house, shell) as run:
        pages = run.pages
        run.program.kill()
        house.until(lambda: not there(pages))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_both_at_once_is_not_alarmed(house: House, shell: Shell, number: signal.Signals):
    """Ctrl-C in a terminal, and a service manager, send it to all."""
    with running(house, shell) as run:
        pages = run.pages
        for pid in (pages, run.program.pid):
            os.kill(pid, number)
        status, said = run.ends()
        assert status == 0
        assert "Traceback" not in said
        assert "alarm_raised" not in said
        house.until(lambda: not there(pages))


def test_sighup_reaches_the_pages(house: House, shell: Shell):
    with running(house, shell) as run:
        assert status_of(f"{run.url}/metrics") == 401
        run.configure(open_metrics="true")
        run.program.send_signal(signal.SIGHUP)
        house.until(lambda: status_of(f"{run.url}/metrics") == 200)


def test_a_broken_certificate_ends_run_at_once(house: House, shell: Shell, tmp_path: Path):
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing of the kind")
    shell.path.write_text(
        f'{shell.path.read_text()}[web]\nlisten = "127.0.0.1:{port_free()}"\n'
        f'tls_certificate = "{broken}"\ntls_key = "{broken}"\n'
    )
    status, _, err = shell("run", "--log-level", "error")
    assert status == 3
    assert "web.tls_certificate and web.tls_key cannot be used" in err


def test_an_engine_that_stands_still_is_not_well(house: House, shell: Shell):
    with closing(Ledger(house.url)) as ledger:
        token = accounts.add_token(ledger, "test", Scope.ADMIN, "root")
    house.missed()
    with running(house, shell) as run:
        asks = Served(f"{run.url}/api/v1", token)
        run.program.send_signal(signal.SIGSTOP)
        asked = gevent.spawn(asks, "/missed/1/why")
        house.until(lambda: status_of(f"{run.url}/readyz") == 503)
        house.until(lambda: status_of(f"{run.url}/healthz") == 503, 20.0)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            asked.get(timeout=20)
        run.program.send_signal(signal.SIGCONT)
        house.until(lambda: status_of(f"{run.url}/readyz") == 200)
        assert asks("/missed/1/why")["gates"]
