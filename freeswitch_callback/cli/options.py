"""The options that commands share, and what they choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from freeswitch_callback.core.facts import Reason
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger import Filter
from freeswitch_callback.operations import choosing

Command = Callable[..., Any]

ids_argument = click.argument("ids", metavar="[ID]...", type=int, nargs=-1)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")


def now() -> datetime:
    return datetime.now(UTC)


_FILTERS = {
    "state": click.option("--state", type=click.Choice([str(s) for s in State]), help="What the recall is."),
    "reason": click.option(
        "--reason", type=click.Choice([str(r) for r in Reason]), help="Why the call was missed."
    ),
    "queue": click.option("--queue", help="The queue, like support@default."),
    "number": click.option("--number", help="The caller's number."),
    "since": click.option(
        "--since", metavar="TIME", help="Called at or after: 2026-11-23, 2026-11-23T08:00, 2h."
    ),
    "until": click.option("--until", metavar="TIME", help="Called before."),
    "older_than": click.option("--older-than", metavar="AGE", help="Called longer ago than: 30d, 12h."),
    "limit": click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest first."),
}


def filters(command: Command) -> Command:
    """The same filters, everywhere."""
    for option in reversed(_FILTERS.values()):
        command = option(command)
    return command


def filters_but_until(command: Command) -> Command:
    """For a command that has an `--until` of its own."""
    for name, option in reversed(_FILTERS.items()):
        command = option(command) if name != "until" else command
    return command


def output_format(command: Command) -> Command:
    formats = click.Choice(["table", "json", "csv"])
    return click.option("--format", "form", type=formats, default="table", help="json: one object a line.")(
        command
    )


def filter_of(ids: tuple[int, ...], given: Mapping[str, Any]) -> Filter:
    return choosing.filter_of(ids, given, now())


def chosen(ids: tuple[int, ...], everything: bool, given: Mapping[str, Any], verb: str) -> Filter:
    """A filter for what changes rows: never all of them by accident."""
    what = f"{verb} what? Name an ID, a filter such as --state or --older-than, or --all"
    return choosing.chosen(ids, everything, given, what, now())
