"""Commands that change what becomes of missed calls: replay, postpone, close, add."""

from __future__ import annotations

from typing import Any

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import (
    chosen,
    dry_run_option,
    filters,
    filters_but_until,
    ids_argument,
    now,
)
from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.operations import recalls, times
from freeswitch_callback.operations.choosing import exist


@click.command()
@ids_argument
@filters
@click.option("--all", "everything", is_flag=True, help="Every closed or unknown recall.")
@dry_run_option
@click.pass_obj
def replay(context: Context, ids: tuple[int, ...], everything: bool, dry_run: bool, **given: Any) -> None:
    """Call back again: attempts start anew, due now, with a new expiry.

    Takes closed recalls and those whose outcome is unknown; named by its ID, also one that was under way at a
    FreeSWITCH that is not in the configuration any more. If the number has an open recall already, the
    missed calls join that one.

    \b
    freeswitch-callback replay 17
    freeswitch-callback replay --state unknown --since 2h --dry-run
    """
    which = chosen(ids, everything, given, "replay")
    with context.ledger() as ledger:
        exist(ledger, ids)
        if dry_run:
            click.echo(f"would replay the recalls of missed calls: {ledger.count(which)}")
            return
        recalls.give_up_named(ledger, which, context.nodes, by=context.who)
        replayed = recalls.replay(ledger, which, by=context.who, gates=context.gates, now=now())
    click.echo(f"replayed: {replayed.recalls}")
    if replayed.blocked:
        click.echo(f"still may not be called: {replayed.blocked}")


@click.command()
@ids_argument
@filters_but_until
@click.option("--until", metavar="TIME", help="When they are due: 2026-11-23T15:00, or a time from now, 2h.")
@click.option("--for", "length", metavar="AGE", help="How long from now: 30m, 2h, 1d.")
@click.option("--all", "everything", is_flag=True, help="Every recall that waits.")
@dry_run_option
@click.pass_obj
def postpone(
    context: Context,
    ids: tuple[int, ...],
    until: str | None,
    length: str | None,
    everything: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Call back later. Takes recalls that wait; they expire as much later.

    \b
    freeswitch-callback postpone 17 --for 2h
    freeswitch-callback postpone --queue support@default --until 2026-11-23T15:00
    """
    due = times.due(until, length, now(), "until when? Name either --until 2026-11-23T15:00 or --for 2h")
    which = chosen(ids, everything, given, "postpone")
    with context.ledger() as ledger:
        exist(ledger, ids)
        if dry_run:
            click.echo(f"would postpone the recalls of missed calls: {ledger.count(which)}")
            return
        postponed = ledger.postpone(which, due, by=context.who)
    click.echo(f"postponed until {output.printable(due)}: {postponed}")


@click.command()
@ids_argument
@filters
@click.option("--all", "everything", is_flag=True, help="Every recall that waits or is unknown.")
@click.option("--note", default="", help="Why; kept in the journal.")
@dry_run_option
@click.pass_obj
def close(
    context: Context, ids: tuple[int, ...], everything: bool, note: str, dry_run: bool, **given: Any
) -> None:
    """Call nobody back for these. Takes recalls that wait, and those whose outcome is unknown; named by its
    ID, also one that was under way at a FreeSWITCH that is not in the configuration any more.

    \b
    freeswitch-callback close 17 --note "solved by mail"
    freeswitch-callback close --queue support@default --older-than 12h --dry-run
    """
    which = chosen(ids, everything, given, "close")
    with context.ledger() as ledger:
        exist(ledger, ids)
        if dry_run:
            click.echo(f"would close the recalls of missed calls: {ledger.count(which)}")
            return
        recalls.give_up_named(ledger, which, context.nodes, by=context.who)
        closed = ledger.close_recalls(which, by=context.who, closed_as=ClosedAs.CANCELLED, reason=note)
        click.echo(f"closed: {closed}")


@click.command()
@click.argument("number")
@click.option("--queue", required=True, help="Whose agents call back, like support@default.")
@click.option("--name", default="", help="What the client is called.")
@click.pass_obj
def add(context: Context, number: str, queue: str, name: str) -> None:
    """Have NUMBER called back, though no call of it was missed.

    \b
    freeswitch-callback add +12025550100 --queue support@default
    """
    gates = context.gates(queue)
    with context.ledger() as ledger:
        recorded = recalls.add(ledger, number, queue, gates, now=now(), name=name, by=context.who)
    if recorded.blocked:
        blocked = output.printable(recorded.blocked)
        click.echo(f"added as {recorded.missed_id}, but it will not be called: {blocked}")
    else:
        click.echo(f"added as {recorded.missed_id}")
