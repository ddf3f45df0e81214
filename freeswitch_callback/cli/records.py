"""Commands about what was missed: list, show, replay, purge, add, close."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from freeswitch_callback import operations
from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context, gate_rules
from freeswitch_callback.core.facts import ClosedAs, Reason
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.errors import NotFound, UsageError
from freeswitch_callback.ledger import Filter

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
    "note",
)
_LIST_LIMIT = 50

Command = Callable[..., Any]


def _now() -> datetime:
    return datetime.now(UTC)


def filters(command: Command) -> Command:
    """The same filters, everywhere."""
    for option in reversed(
        (
            click.option("--state", type=click.Choice([str(s) for s in State]), help="What the recall is."),
            click.option(
                "--reason", type=click.Choice([str(r) for r in Reason]), help="Why the call was missed."
            ),
            click.option("--queue", help="The queue, like support@default."),
            click.option("--number", help="The caller's number."),
            click.option(
                "--since", metavar="TIME", help="Called at or after: 2026-11-23, 2026-11-23T08:00, 2h."
            ),
            click.option("--until", metavar="TIME", help="Called before."),
            click.option("--older-than", metavar="AGE", help="Called longer ago than: 30d, 12h."),
            click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest first."),
        )
    ):
        command = option(command)
    return command


def output_format(command: Command) -> Command:
    formats = click.Choice(["table", "json", "csv"])
    return click.option("--format", "form", type=formats, default="table", help="json: one object a line.")(
        command
    )


def _filter(ids: tuple[int, ...], given: dict[str, Any]) -> Filter:
    now = _now()

    def moment(name: str) -> datetime | None:
        return operations.moment(given[name], now) if given[name] else None

    older = given["older_than"]
    return Filter(
        ids=ids,
        state=given["state"],
        reason=given["reason"],
        queue=given["queue"],
        number=given["number"],
        since=moment("since"),
        until=moment("until"),
        older_than=operations.ago(older, now) if older else None,
        limit=given["limit"],
    )


def _chosen(ids: tuple[int, ...], everything: bool, given: dict[str, Any], verb: str) -> Filter:
    """A filter for what changes rows: never all of them by accident."""
    if not ids and not everything and not any(value for value in given.values()):
        raise UsageError(f"{verb} what? Name an ID, a filter such as --state or --older-than, or --all")
    return _filter(ids, given)


def _agreed(count: int, what: str, dry_run: bool, yes: bool) -> bool:
    """Whether to go on with a change of `count` rows."""
    if dry_run:
        click.echo(f"would {what}: {count}")
        return False
    return count > 0 and (yes or click.confirm(f"{what}: {count}. Go on?", default=False))


@click.command("list")
@filters
@output_format
@click.pass_obj
def list_(context: Context, form: str, **given: Any) -> None:
    """List missed calls, the newest first, with what became of their recall.

    \b
    freeswitch-callback list --state waiting
    freeswitch-callback list --since 2h --format json
    """
    given["limit"] = given["limit"] or _LIST_LIMIT
    with context.ledger() as ledger:
        output.show(ledger.listing(_filter((), given)), form, _TABLE)


@click.command()
@click.argument("id_", metavar="ID", type=int)
@output_format
@click.pass_obj
def show(context: Context, id_: int, form: str) -> None:
    """Show everything about one missed call: its recall, attempts, other calls of that number, journal."""
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
@click.argument("ids", metavar="[ID]...", type=int, nargs=-1)
@filters
@click.option("--all", "everything", is_flag=True, help="Every closed or unknown recall.")
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.pass_obj
def replay(context: Context, ids: tuple[int, ...], everything: bool, dry_run: bool, **given: Any) -> None:
    """Call back again: attempts start anew, due now, with a new expiry.

    Takes closed recalls and those whose outcome is unknown. If the number has an open recall already, the
    missed calls join that one.
    """
    chosen = _chosen(ids, everything, given, "replay")
    with context.ledger() as ledger:
        _exist(ledger, ids)
        if dry_run:
            click.echo(f"would replay the recalls of missed calls: {ledger.count(chosen)}")
            return
        replayed = operations.replay(
            ledger, chosen, by=context.who, gates=partial(gate_rules, context.configuration)
        )
    click.echo(f"replayed: {replayed.recalls}")
    if replayed.blocked:
        click.echo(f"still may not be called: {replayed.blocked}")


@click.command()
@click.argument("ids", metavar="[ID]...", type=int, nargs=-1)
@filters
@click.option("--all", "everything", is_flag=True, help="Everything that is closed.")
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(
    context: Context, ids: tuple[int, ...], everything: bool, dry_run: bool, yes: bool, **given: Any
) -> None:
    """Delete missed calls for good, with their recalls, attempts and journal. Open recalls are spared."""
    chosen = _chosen(ids, everything, given, "purge")
    with context.ledger() as ledger:
        _exist(ledger, ids)
        if _agreed(ledger.purgeable(chosen), "delete missed calls for good", dry_run, yes):
            click.echo(f"purged: {ledger.purge(chosen, by=context.who)}")
        elif not dry_run:
            click.echo("purged: 0")


@click.command()
@click.argument("ids", metavar="[ID]...", type=int, nargs=-1)
@filters
@click.option("--all", "everything", is_flag=True, help="Every recall that waits or is unknown.")
@click.option("--note", default="", help="Why; kept in the journal.")
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.pass_obj
def close(
    context: Context, ids: tuple[int, ...], everything: bool, note: str, dry_run: bool, **given: Any
) -> None:
    """Call nobody back for these. Takes recalls that wait, and those whose outcome is unknown."""
    chosen = _chosen(ids, everything, given, "close")
    with context.ledger() as ledger:
        _exist(ledger, ids)
        if dry_run:
            click.echo(f"would close the recalls of missed calls: {ledger.count(chosen)}")
            return
        closed = ledger.close_recalls(chosen, by=context.who, closed_as=ClosedAs.CANCELLED, reason=note)
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
    gates = gate_rules(context.configuration, queue)
    with context.ledger() as ledger:
        recorded = operations.add(ledger, number, queue, gates, now=_now(), name=name, by=context.who)
    if recorded.blocked:
        click.echo(f"added as {recorded.missed_id}, but it will not be called: {recorded.blocked}")
    else:
        click.echo(f"added as {recorded.missed_id}")


def _exist(ledger: Any, ids: tuple[int, ...]) -> None:
    for id_ in ids:
        if not ledger.count(Filter(ids=(id_,))):
            raise NotFound(f"there is no missed call {id_}; `freeswitch-callback list` shows those there are")
