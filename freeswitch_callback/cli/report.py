"""The command that tells how well missed calls were recovered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import now, output_format
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.errors import UsageError
from freeswitch_callback.ledger import Filter, Report
from freeswitch_callback.operations import times, verdicts

_COLUMNS = ("section", "name", "value")


@click.command()
@click.option("--since", metavar="TIME", default="24h", show_default=True, help="Called at or after.")
@click.option("--until", metavar="TIME", help="Called before (default: now).")
@click.option("--queue", help="One queue only, like support@default.")
@output_format
@click.pass_obj
def report(context: Context, since: str, until: str | None, queue: str | None, form: str) -> None:
    """Tell how many calls were missed, what became of them, and how long it took.

    What is open is counted as of now, by the first gate that is shut. Hours are local. The rate of clients
    who hung up before an agent was there is of the 30 days before --until. JSON is one object, lengths of
    time in seconds, rates from 0 to 1.

    \b
    freeswitch-callback report --since 2026-11-01 --until 2026-12-01
    freeswitch-callback report --since 7d --queue support@default --format json
    """
    at = now()
    start = times.moment(since, at)
    end = times.moment(until, at) if until is not None else at
    if start >= end:
        raise UsageError(f"--since {since!r} must be before --until {until or 'now'!r}")
    with context.ledger() as ledger:
        figures = ledger.report(start, end, queue, zone=times.LOCAL)
        waiting = Filter(state=State.WAITING, queue=queue)
        with output.progress("asking the gates", lambda: ledger.count(waiting)) as tell:
            by_gate = verdicts.open_by_gate(ledger, context.gates, at, queue, tell)
    whole = asdict(figures) | {"queue": queue, "open_by_gate": by_gate}
    if form == "json":
        output.show([whole], form, ())
    elif form == "csv":
        output.show(_rows(whole), form, _COLUMNS)
    else:
        for line in _told(figures, queue, by_gate):
            click.echo(line)


def _rows(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A figure a row; those that belong together have the same section."""
    for name, value in whole.items():
        if isinstance(value, Mapping):
            for inner, count in value.items():
                yield {"section": name, "name": inner, "value": count}
        else:
            yield {"section": "", "name": name, "value": value}


def _told(figures: Report, queue: str | None, by_gate: Mapping[str, int]) -> Iterator[str]:
    served = figures.served_inbound + figures.served_outbound
    callable_ = figures.missed - figures.closed.get("blocked", 0)
    where = output.printable(queue) if queue is not None else "all queues"
    yield f"{output.printable(figures.since)} to {output.printable(figures.until)}, {where}"
    yield ""
    yield from _table(
        {
            "missed": figures.missed,
            "recalled": figures.recalled,
            "served otherwise": served,
            "  the client called again": figures.served_inbound,
            "  an operator called the client": figures.served_outbound,
            "open": figures.open,
            **figures.closed,
        }
    )
    yield ""
    yield f"recovery rate: {output.share(figures.recalled + served, callable_)} that could be called"
    yield (
        f"time to recall: median {output.duration(figures.median_time)}, "
        f"nine of ten within {output.duration(figures.p90_time)}"
    )
    yield (
        f"hung up before an agent was there: {output.share(figures.hung_up, figures.answered)} "
        f"clients who answered, in 30 days"
    )
    for title, counts in (
        ("by reason", figures.by_reason),
        ("by queue", {name or "no queue": count for name, count in figures.by_queue.items()}),
        ("by hour", {f"{hour:02}:00": count for hour, count in figures.by_hour.items() if count}),
        ("open recalls now, by the first gate that is shut", by_gate),
    ):
        if counts:
            yield ""
            yield f"{title}:"
            yield from _table({f"  {name}": count for name, count in counts.items()})


def _table(counts: Mapping[str, int]) -> Iterator[str]:
    names = {output.printable(name): count for name, count in counts.items()}
    width = max(map(len, names))
    for name, count in names.items():
        yield f"{name:{width}}  {count:>6}"
