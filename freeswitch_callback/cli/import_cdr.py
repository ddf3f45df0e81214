"""Missed calls out of the files of mod_json_cdr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import dry_run_option, now, output_format
from freeswitch_callback.core.facts import Missed
from freeswitch_callback.errors import CallbackError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import cdr_files, cdr_import, times
from freeswitch_callback.operations.cdr_files import Call, Unreadable
from freeswitch_callback.operations.cdr_import import Imported

_TOLD = 20
_BATCH = 500


@click.command("import-cdr")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--node", metavar="NAME", help="Which [[freeswitch]] wrote them, if there are several.")
@click.option(
    "--since", metavar="TIME", help="Only calls that began at or after: 2026-11-23, 2026-11-23T08:00, 2h."
)
@dry_run_option
@output_format
@click.pass_obj
def import_cdr(
    context: Context, paths: tuple[str, ...], node: str | None, since: str | None, dry_run: bool, form: str
) -> int:
    """Record the calls that were missed while no engine ran, from what mod_json_cdr wrote.

    PATH is a file, or a folder with all *.json in it and below: also the spool of what could not be posted
    (err-log-dir). The files are only read. A call that is on record already is completed, not recorded again;
    an answered one closes the client's recall, unless a later call was missed. What has expired since is
    recorded and not called. May be stopped and run again. Exit status 1 if any file could not be read.

    \b
    freeswitch-callback import-cdr /var/log/freeswitch/json_cdr --since 12h --dry-run
    freeswitch-callback import-cdr --node fs1 /var/log/freeswitch/json_cdr
    """
    at = now()
    configuration = context.configuration
    reader = cdr_import.Reader(
        cdr_import.node_of(node, [each.name for each in configuration.freeswitch]),
        configuration.capture.rules(),
        at,
        times.moment(since, at) if since is not None else None,
    )
    found = cdr_files.find(paths)
    with context.ledger() as ledger:
        with output.progress("reading", lambda: _count(paths)) as tell:
            calls = cdr_import.by_start(_told(reader, found, tell))
            first = next(calls, None)  # by now all are read
        everything = calls if first is None else _with(first, calls)
        if dry_run:
            _foresee(ledger, everything, reader.node, reader.counted)
        else:
            with output.progress("recording", lambda: _left(reader.counted)) as tell:
                for done, call in enumerate(everything, 1):
                    _take_in(ledger, call, context, reader.counted)
                    tell(done)
    _sum_up(reader.counted, form, dry_run)
    return 1 if reader.counted.unreadable else 0


def _told(
    reader: cdr_import.Reader, found: Iterable[str | Unreadable], tell: Callable[[int], None]
) -> Iterator[Call]:
    """The calls; the first of those that cannot be read are named."""
    for told in reader.calls(found):
        tell(reader.counted.read)
        if isinstance(told, Call):
            yield told
        elif reader.counted.unreadable <= _TOLD:
            click.echo(f"{output.printable(told.path)}: {output.printable(told.why)}", err=True)
    if reader.counted.unreadable > _TOLD:
        click.echo(f"and {reader.counted.unreadable - _TOLD} more that cannot be read", err=True)


def _take_in(ledger: Ledger, call: Call, context: Context, counted: Imported) -> None:
    try:
        cdr_import.take_in(ledger, call, context.gates, now(), counted)
    except CallbackError:
        done = counted.missed + counted.known + counted.served
        click.echo(f"taken in before it failed: {done}; import again, what is done stays as it is", err=True)
        raise


def _foresee(ledger: Ledger, calls: Iterator[Call], node: str, counted: Imported) -> None:
    while batch := list(islice(calls, _BATCH)):
        missed = {call.fact.call_uuid for call in batch if isinstance(call.fact, Missed)}
        known = ledger.known_calls(node, missed)
        counted.missed += len(missed - known)
        counted.known += len(known)
        counted.served += sum(not isinstance(call.fact, Missed) for call in batch)


def _sum_up(counted: Imported, form: str, dry_run: bool) -> None:
    values = asdict(counted)
    if dry_run:  # what only recording them tells
        del values["to_call"], values["closed"]
    if form != "table":
        output.show([values], form, list(values))
        return
    new = "would be new" if dry_run else f"new, {counted.to_call} of them to be called back"
    closed = "" if dry_run else f", recalls closed by them: {counted.closed}"
    click.echo(f"read: {counted.read}")
    click.echo(f"missed: {counted.missed} {new}; {counted.known} on record already")
    click.echo(f"served: {counted.served}{closed}")
    click.echo(f"not ours: {counted.not_ours}")
    if counted.too_old:
        click.echo(f"older than asked for: {counted.too_old}")
    click.echo(f"not readable: {counted.unreadable}")


def _count(paths: tuple[str, ...]) -> int:
    return sum(isinstance(path, str) for path in cdr_files.find(paths))


def _left(counted: Imported) -> int:
    return counted.read - counted.not_ours - counted.too_old - counted.unreadable


def _with(first: Call, others: Iterator[Call]) -> Iterator[Call]:
    yield first
    yield from others
