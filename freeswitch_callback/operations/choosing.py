"""Which missed calls somebody means: the same words at the command line and in the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from freeswitch_callback.errors import NotFound, UsageError
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.operations import times

WORDS = ("state", "reason", "queue", "number", "since", "until", "older_than", "limit")
"""What a filter can be made of."""


def filter_of(
    ids: tuple[int, ...],
    given: Mapping[str, Any],
    now: datetime,
    *,
    queues: tuple[str, ...] | None = None,
    search: str | None = None,
) -> Filter:
    """Of `WORDS`, None or missing where nothing was said; times as people write them. `queues` are the
    patterns that whoever asks is limited to. Raises `UsageError`."""

    def moment(name: str) -> datetime | None:
        text = given.get(name)
        return times.moment(text, now) if text is not None else None

    older = given.get("older_than")
    return Filter(
        ids=ids,
        state=given.get("state"),
        reason=given.get("reason"),
        queue=given.get("queue"),
        number=given.get("number"),
        since=moment("since"),
        until=moment("until"),
        older_than=times.ago(older, now) if older is not None else None,
        limit=given.get("limit"),
        queues=queues,
        search=search,
    )


def chosen(
    ids: tuple[int, ...],
    everything: bool,
    given: Mapping[str, Any],
    what: str,
    now: datetime,
    *,
    queues: tuple[str, ...] | None = None,
) -> Filter:
    """A filter for what changes rows: never all of them by accident. `what` is said if nothing is named."""
    if not ids and not everything and all(given.get(word) is None for word in WORDS):
        raise UsageError(what)
    return filter_of(ids, given, now, queues=queues)


def exist(ledger: Ledger, ids: tuple[int, ...], queues: tuple[str, ...] | None = None) -> None:
    """Raises `NotFound` for a missed call that is not on record, or not to be seen."""
    for id_ in ids:
        if not ledger.count(Filter(ids=(id_,), queues=queues)):
            raise NotFound(f"there is no missed call {id_}; `freeswitch-callback list` shows those there are")
