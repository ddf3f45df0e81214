"""The command that ends what is kept: purge."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import chosen, dry_run_option, filters, ids_argument
from freeswitch_callback.errors import CallbackError, DiskFull
from freeswitch_callback.ledger import Affected, Filter, Ledger
from freeswitch_callback.operations import machine
from freeswitch_callback.operations.choosing import exist

_WITH_THEM = {
    "recalls": "recalls",
    "attempts": "attempts",
    "journal": "lines of the journal",
    "remarks": "remarks",
    "list_entries": "expired entries of the do-not-call list",
    "others": "other traces of long ago",
}


@click.command()
@ids_argument
@filters
@click.option("--all", "everything", is_flag=True, help="Everything that is closed.")
@click.option("--anonymise", is_flag=True, help="Keep the figures; numbers and names are gone for good.")
@click.option(
    "--vacuum", is_flag=True, help="Afterwards, leave nothing of it in the file, and give the room back."
)
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(
    context: Context,
    ids: tuple[int, ...],
    everything: bool,
    anonymise: bool,
    vacuum: bool,
    dry_run: bool,
    yes: bool,
    **given: Any,
) -> None:
    """Delete missed calls for good, with their recalls, attempts and journal. Open recalls are spared.

    With --anonymise they stay, as figures: who called and who called back is gone, and cannot be found out
    again. Chosen by age alone, also goes what belongs to no missed call: who talked to whom, expired entries
    of the do-not-call list. Says first how many there are. May be stopped and run again.

    \b
    freeswitch-callback purge --older-than 90d --dry-run
    freeswitch-callback purge --older-than 90d --anonymise --vacuum
    """
    which = chosen(ids, everything, given, "purge")
    what, done = (
        ("anonymise missed calls for good", "anonymised") if anonymise
        else ("delete missed calls for good", "purged")
    )  # fmt: skip
    with context.ledger() as ledger:
        exist(ledger, ids)
        count = ledger.purgeable(which, anonymise=anonymise)
        if dry_run or count.total:
            click.echo(f"{'would ' if dry_run else 'to '}{what}: {_told(count)}")
        if vacuum:
            click.echo(_cost_of_vacuum(ledger))
        if dry_run:
            return
        purged = 0
        if yes or not (count.total or vacuum) or click.confirm("Go on?", default=False):
            with output.progress(what, lambda: count.missed) as tell:
                purged = _purge(ledger, which, context.who, anonymise, tell)
            _tidy(ledger, vacuum)
        click.echo(f"{done}: {purged}")


def _purge(ledger: Ledger, which: Filter, by: str, anonymise: bool, tell: Callable[[int], None]) -> int:
    try:
        return ledger.purge(which, by=by, anonymise=anonymise, tell=tell)
    except CallbackError:
        click.echo("run it again: what is done stays done", err=True)
        raise


def _told(count: Affected) -> str:
    parts = [f"{getattr(count, name)} {text}" for name, text in _WITH_THEM.items() if getattr(count, name)]
    return f"{count.missed}" + (f", with {', '.join(parts)}" if parts else "")


def _cost_of_vacuum(ledger: Ledger) -> str:
    """What it takes, before somebody says yes. Raises `DiskFull` where there is not as much."""
    size = ledger.size()
    if ledger.path is None:
        return f"vacuum: {size / 1e6:,.1f} MB to go through; takes no room, and nobody waits for it"
    for folder in (ledger.path.parent, _temporary()):
        room = machine.room(folder)
        if room.free < size + machine.FULL:
            raise DiskFull(f"a vacuum takes {size / 1e6:,.1f} MB, and {room}: make room, or purge without it")
    return (
        f"vacuum: takes {size / 1e6:,.1f} MB in {ledger.path.parent} and in {_temporary()} while it lasts, "
        f"some seconds for each 100 MB; engines write to their spool meanwhile"
    )


def _temporary() -> Path:
    """Where SQLite writes what it needs for a while, as its documentation has it."""
    named = [os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"]
    return next(
        (Path(p) for p in named if p and os.path.isdir(p) and os.access(p, os.W_OK | os.X_OK)), Path()
    )


def _tidy(ledger: Ledger, vacuum: bool) -> None:
    before, began = ledger.size(), time.monotonic()
    ledger.tidy(vacuum=vacuum)
    if vacuum:
        took = output.duration(time.monotonic() - began)
        click.echo(f"vacuum: {before / 1e6:,.1f} MB before, {ledger.size() / 1e6:,.1f} MB now, in {took}")
