"""The list of those who must not be called: dnc add, remove, list, import."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, cast

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import dry_run_option, now, output_format
from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.errors import CallbackError, NotFound, UsageError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import donotcall, times
from freeswitch_callback.operations.donotcall import BadLine

_COLUMNS = ("number", "note", "until", "added_by", "added_at")
_BATCH = 1000
_TOLD = 20


@click.group()
def dnc() -> None:
    """Who must not be called: numbers, and whole prefixes. The engine goes by it at once.

    \b
    freeswitch-callback dnc add "030 1234567" --note "asked for it by mail"
    freeswitch-callback dnc add '+4930*' --until 2026-12-24
    freeswitch-callback dnc import blocklist.csv
    """


@dnc.command()
@click.argument("number")
@click.option("--prefix", is_flag=True, help="NUMBER is how the numbers begin, as with a star behind it.")
@click.option("--note", default="", help="Why; `why` and `list` show it.")
@click.option(
    "--until", metavar="TIME", help="Until when: 2026-12-24, or a time from now, 30d (default: ever)."
)
@click.pass_obj
def add(context: Context, number: str, prefix: bool, note: str, until: str | None) -> None:
    """Put NUMBER on the list, or change its entry. As people write it, or a prefix with a star behind it.

    Quote the star: your shell reads it otherwise.

    \b
    freeswitch-callback dnc add "(202) 555-0100" --note "asked for it by mail"
    freeswitch-callback dnc add '+4930*' --until 30d
    """
    at = now()
    entry = DoNotCall(
        number=donotcall.entry_of(number, _rules(context), prefix=prefix),
        note=note,
        added_by=context.who,
        until=times.ahead(until, at) if until is not None else None,
        added_at=at,
    )
    with context.ledger() as ledger:
        ledger.forbid([entry], by=context.who)
    lasts = f" until {output.printable(entry.until)}" if entry.until is not None else ""
    click.echo(f"not called any more{lasts}: {entry.number}")


@dnc.command()
@click.argument("number")
@click.pass_obj
def remove(context: Context, number: str) -> None:
    """Take NUMBER off the list. What it has blocked stays closed until you `replay` it.

    \b
    freeswitch-callback dnc remove "(202) 555-0100"
    freeswitch-callback dnc remove '+4930*'
    """
    with context.ledger() as ledger:
        removed = donotcall.forget(ledger, number, _rules(context), context.who)
        if removed is None:
            raise NotFound(f"{number[:60]!r} is not on the list; `dnc list --number` shows what forbids it")
        others = [] if removed.endswith("*") else [entry.number for entry in ledger.forbidden(removed)]
    click.echo(f"no more on the list: {output.printable(removed)}")
    if others:
        click.echo(f"still not called: it begins like {', '.join(others)}")


@dnc.command("list")
@click.option("--number", help="Only what forbids to call this number.")
@output_format
@click.pass_obj
def list_(context: Context, number: str | None, form: str) -> None:
    """Show the list, or the entries that a number meets. `dnc import` reads what `--format csv` writes.

    \b
    freeswitch-callback dnc list --number +493012345678
    freeswitch-callback dnc list --format csv > blocklist.csv
    """
    if number is not None:
        number = donotcall.entry_of(number, _rules(context))
    with context.ledger() as ledger:
        rows = ({name: getattr(entry, name) for name in _COLUMNS} for entry in ledger.forbidden(number))
        output.show(rows, form, _COLUMNS)


@dnc.command("import")
@click.argument("path", metavar="FILE")
@dry_run_option
@click.pass_obj
def import_(context: Context, path: str, dry_run: bool) -> int:
    """Put the numbers of a CSV file on the list; FILE - is the standard input.

    Columns: number, note, until, the first alone or in a first line that names them; separated by , or ;. A
    line that is no number is told and left out, the others are added. To add one twice is fine, so an import
    that was broken off can be done again. Exit status 1 if any line was left out.

    \b
    freeswitch-callback dnc import blocklist.csv --dry-run
    printf '+12025550100;asked for it\\n+4930*\\n' | freeswitch-callback dnc import -
    """
    bad = added = 0
    with _opened(path) as (raw, encoding, size):
        if encoding == "latin-1":
            click.echo(f"{path[:60]!r} is not UTF-8; read as latin-1", err=True)
        text = io.TextIOWrapper(raw, encoding, errors="replace", newline="")
        with context.ledger() as ledger, output.progress("importing", lambda: size) as tell:
            lines = donotcall.read_list(text, _rules(context), by=context.who, now=now())
            while batch := list(islice(lines, _BATCH)):
                entries = [entry for entry in batch if isinstance(entry, DoNotCall)]
                for line in (line for line in batch if isinstance(line, BadLine)):
                    bad += 1
                    if bad <= _TOLD:
                        click.echo(f"line {line.line}: {output.printable(line.why)}", err=True)
                if not dry_run:
                    _forbid(ledger, entries, context.who, added)
                added += len(entries)
                tell(raw.tell())
        text.detach()
    if bad > _TOLD:
        click.echo(f"and {bad - _TOLD} lines more", err=True)
    click.echo(f"{'would add' if dry_run else 'added'}: {added}" + (f", left out: {bad}" if bad else ""))
    return 1 if bad else 0


def _forbid(ledger: Ledger, entries: list[DoNotCall], by: str, before: int) -> None:
    try:
        ledger.forbid(entries, by=by)
    except CallbackError:
        click.echo(f"added before it failed: {before}; import the file again, adding twice is fine", err=True)
        raise


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, str, int]]:
    """A file to be read from its beginning, its encoding, and how many bytes it has."""
    with _spooled(sys.stdin.buffer) if path == "-" else _file(path) as raw:
        encoding, size = _encoding(raw), raw.seek(0, os.SEEK_END)
        raw.seek(0)
        yield raw, encoding, size


@contextmanager
def _spooled(stream: BinaryIO) -> Iterator[BinaryIO]:
    """A file of all that is in a stream, because it is read twice."""
    with tempfile.TemporaryFile() as raw:
        shutil.copyfileobj(stream, raw)
        yield cast(BinaryIO, raw)


@contextmanager
def _file(path: str) -> Iterator[BinaryIO]:
    try:
        raw = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{path[:200]!r} cannot be read: {why}; name a CSV file, or - for the standard input"
        ) from None
    with raw:
        yield raw


def _encoding(raw: BinaryIO) -> str:
    """UTF-8 if all of it is; what spreadsheets save with a byte order mark; else latin-1, which all is."""
    raw.seek(0)
    if raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    raw.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := raw.read(1 << 16):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _rules(context: Context) -> NumberRules:
    return context.configuration.numbers.rules()
