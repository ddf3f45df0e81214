"""Commands that look at what was missed: list, show, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import filter_of, filters, now, output_format
from freeswitch_callback.errors import UsageError
from freeswitch_callback.ledger import Listed
from freeswitch_callback.operations import spreadsheet, verdicts

_TABLE = (
    "id",
    "calldate",
    "phone",
    "queue",
    "timewait",
    "reason",
    "operator",
    "state",
    "attempts",
    "closed_as",
    "gate",
    "note",
)
_LIST_LIMIT = 50


@click.command("list")
@filters
@output_format
@click.pass_obj
def list_(context: Context, form: str, **given: Any) -> None:
    """List missed calls, the newest first, with what became of their recall.

    The column `gate` tells why nobody is called back yet: the first gate that is shut.

    \b
    freeswitch-callback list --state waiting
    freeswitch-callback list --since 2h --format json
    """
    given["limit"] = given["limit"] or _LIST_LIMIT
    with context.ledger() as ledger:
        rows = verdicts.with_gates(ledger, ledger.listing(filter_of((), given)), context.gates, now())
        output.show(map(_told_once, rows) if form == "table" else rows, form, _TABLE)


def _told_once(row: Listed) -> Listed:
    """What has blocked a recall is its note: people read it once, as the gate."""
    return row | {"note": ""} if row["gate"] == row["note"] else row


@click.command()
@click.argument("id_", metavar="ID", type=int)
@output_format
@click.pass_obj
def show(context: Context, id_: int, form: str) -> None:
    """Show everything about one missed call: its recall, attempts, other calls of that number, journal.

    \b
    freeswitch-callback show 17
    """
    with context.ledger() as ledger:
        found = ledger.show(id_)
    if form != "table":
        output.show([found], form, ())
        return
    for line in _story(found):
        click.echo(line)


def _story(found: Mapping[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, list):
            yield f"{name}:"
            for row in value:
                yield "  " + "  ".join(
                    f"{k}={output.printable(v)}" for k, v in row.items() if v not in (None, "", {})
                )
        elif isinstance(value, dict):
            yield f"{name}: " + "  ".join(
                f"{k}={output.printable(v)}" for k, v in value.items() if v is not None
            )
        else:
            yield f"{name}: {output.printable(value)}"


@click.command()
@filters
@click.option("--output", "path", metavar="FILE", help="Where to (default: the standard output).")
@click.option("--bom", is_flag=True, help="Begin with a byte order mark: Excel then reads it as UTF-8.")
@click.option("--force", is_flag=True, help="Replace FILE if there is one.")
@click.pass_obj
def export(context: Context, path: str | None, bom: bool, force: bool, **given: Any) -> None:
    """Write all missed calls that match as CSV, however many: safe to open in a spreadsheet, times in UTC.

    A cell that a spreadsheet would take for a formula has a ' before it. FILE appears when it is complete.

    \b
    freeswitch-callback export --since 30d --output november.csv
    freeswitch-callback export --reason busy --bom --output busy.csv
    """
    chosen = filter_of((), given)
    with context.ledger() as ledger, _complete(path, force) as file:
        if bom:
            file.write("\ufeff")
        with output.progress("exporting", lambda: ledger.count(chosen)) as tell:
            rows = verdicts.with_gates(ledger, ledger.listing(chosen), context.gates, now())
            written = output.csv_rows(rows, spreadsheet.EXPORTED, file, tell)
    if path is not None:
        click.echo(f"exported: {written}")


@contextmanager
def _complete(path: str | None, force: bool) -> Iterator[TextIO]:
    """A file that is not there before all of it is; None: the standard output."""
    if path is None:
        yield sys.stdout
        return
    final = Path(os.path.realpath(path))  # the file that a link means is replaced, not the link
    if final.exists() and not final.is_file():
        raise UsageError(f"{path!r} is no file; leave --output away to write to the standard output")
    if final.exists() and not force:
        raise UsageError(f"{path!r} is there already; name another file, or replace it with --force")
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
