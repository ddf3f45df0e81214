"""The tables as peewee sees them, and the edge at which text becomes fit to be stored.

The models are bound to no database: several ledgers live in one process, so every query is executed against
the database of its transaction (`database.Transaction`). The tables themselves are made by `migrations`.

What a caller sent is stored as it came, with two exceptions that neither database could hold: a NUL and a
lone surrogate (a byte that was not UTF-8) become the visible escapes `\\x00` and `\\udc80`. Text longer than
its column's limit is cut: 255 characters for numbers, names, identifiers and labels, 1000 for `caller_name`
and `note`, 4000 for each value of `extra` and `detail`. The limits keep every index entry below PostgreSQL's
2704 bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import peewee

from freeswitch_callback.core.lifecycle import LIVE, State

LABEL, LINE, VALUE = 255, 1000, 4000
PATTERNS = 10_000
LARGEST_ID = 2**63 - 1
LARGEST_INTEGER = 2**31 - 1

ANONYMISED = "anonymised"
"""What stands for the number of whoever is to be known no more."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str, limit: int = LABEL) -> str:
    """`text` as both databases can store it, at most `limit` characters long."""
    if len(text) <= limit and text.isascii() and "\0" not in text:
        return str(text)  # as nearly all is; of an enum its value

    def escape(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\u{code:04x}" if code else "\\x00"

    # Cutting first spares a megabyte of hostile text the escaping; cutting again bounds what escaping added.
    return _UNSTORABLE.sub(escape, text[:limit])[:limit]


class Text(peewee.TextField):
    """Text that was cleaned; a comparison cleans what it is compared with."""

    def __init__(self, limit: int = LABEL, **options: Any) -> None:
        self.limit = limit
        super().__init__(**options)

    def db_value(self, value: str | None) -> str | None:
        return None if value is None else clean(value, self.limit)


class Whole(peewee.IntegerField):
    """A whole number; one that PostgreSQL's INTEGER could not hold becomes the nearest that it can."""

    def db_value(self, value: int | None) -> int | None:
        return None if value is None else max(-LARGEST_INTEGER, min(LARGEST_INTEGER, int(value)))


def utc(stored: str | datetime) -> datetime:
    """A time as either database gives it back; peewee converts columns itself, but not a subquery's."""
    return (datetime.fromisoformat(stored) if isinstance(stored, str) else stored).astimezone(UTC)


@lru_cache(maxsize=64)
def _utc_text(at: datetime) -> str:
    """Kept: a transaction stores its time again and again. Of UTC only: in other zones one wall clock's time
    is two moments where the clock is set back, and they compare as equal."""
    return at.isoformat(timespec="microseconds")


_as_json = json.JSONEncoder(ensure_ascii=False).encode
"""What `json.dumps` does, which makes an encoder each time."""


class Utc(peewee.Field):
    """An aware datetime: `timestamptz` in PostgreSQL, ISO 8601 text of one width, which sorts, in SQLite."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | None) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        return _utc_text(value if value.tzinfo is UTC else value.astimezone(UTC))

    def python_value(self, value: str | datetime | None) -> datetime | None:
        return None if value is None else utc(value)


class Json(peewee.Field):
    """A JSON object: `jsonb` in PostgreSQL, text in SQLite."""

    field_type = "JSONB"

    def db_value(self, value: Mapping[str, object] | None) -> str | None:
        if value is None:
            return None
        return _as_json(
            {clean(key): clean(item, VALUE) if isinstance(item, str) else item for key, item in value.items()}
        )

    def python_value(self, value: str | dict[str, object] | None) -> dict[str, object] | None:
        if isinstance(value, str):
            return dict(json.loads(value))
        return value


class Table(peewee.Model):
    class Meta:
        legacy_table_names = False

    id = peewee.BigAutoField()


class Missed(Table):
    """Somebody called and was not served."""

    phone = Text()
    calldate = Utc()
    calledid = Text()
    timewait = Whole()
    reason = Text()
    operator = Text(null=True)
    recalldate = Utc(null=True)
    recalloperator = Text(null=True)
    node = Text()
    call_uuid = Text()
    member_uuid = Text(null=True)
    queue = Text(null=True)
    number = Text(null=True)
    caller_name = Text(LINE)
    hangup_cause = Text()
    extra = Json()
    recall = peewee.BigIntegerField()
    settled = peewee.BooleanField()
    recorded_at = Utc()


class Recall(Table):
    """The task to call a number back. `due_at` is by the schedule; `look_at`, never before it, is when its
    gates are worth a look (again)."""

    number = Text(null=True)
    scope = Text()
    queue = Text(null=True)
    state = Text()
    priority = Whole()
    due_at = Utc()
    expires_at = Utc()
    attempts = peewee.IntegerField(default=0)
    failures = peewee.IntegerField(default=0)
    claimed_by = Text(null=True)
    claim = peewee.BigIntegerField(default=0)
    lease_until = Utc(null=True)
    closed_as = Text(null=True)
    closed_at = Utc(null=True)
    closed_by = Text(null=True)
    note = Text(LINE, default="")
    created_at = Utc()
    look_at = Utc()


class Attempt(Table):
    """One originate, written before it is sent. `core_uuid` is the FreeSWITCH that it was sent to: another
    one afterwards means that its memory of the call is gone. `counts`, for the caps: it rang the client, or
    still may; `prefix` is the number's as the configuration cut it then. `said…`: the operator's word while
    it was offered to them; `result`: what they say that it came to."""

    recall = peewee.BigIntegerField()
    node = Text()
    agent = Text(null=True)
    mode = Text()
    call_uuid = Text()
    job_uuid = Text()
    core_uuid = Text(null=True)
    made_at = Utc()
    sent_at = Utc(null=True)
    answered_at = Utc(null=True)
    connected_at = Utc(null=True)
    ended_at = Utc(null=True)
    outcome = Text(null=True)
    hangup_cause = Text(default="")
    number = Text()
    prefix = Text()
    counts = peewee.BooleanField(default=True)
    said = Text(null=True)
    said_by = Text(null=True)
    said_until = Utc(null=True)
    said_why = Text(LINE, default="")
    result = Text(null=True)
    result_by = Text(null=True)


class Reservation(Table):
    """An agent whom an engine holds; the row is written before FreeSWITCH is asked."""

    node = Text()
    agent = Text()
    engine = Text()
    attempt = peewee.BigIntegerField(null=True)
    made_at = Utc()


class Journal(Table):
    """Who changed what, when and why. No numbers and names: those are in `missed` and purged there."""

    at = Utc()
    who = Text()
    what = Text()
    recall = peewee.BigIntegerField(null=True)
    missed = peewee.BigIntegerField(null=True)
    detail = Json()


class Remark(Table):
    """What a person wrote about a recall, for whoever calls this client next."""

    recall = peewee.BigIntegerField()
    at = Utc()
    who = Text()
    text = Text(LINE)


class Dnc(Table):
    """Who must not be called: an E.164 number, or the beginning of many with a star behind it."""

    number = Text()
    note = Text(LINE)
    added_by = Text()
    added_at = Utc()
    until = Utc(null=True)


class Breaker(Table):
    """The breaker of one prefix: stopped since `tripped_at`, by that many recalls. Attempts up to `reset_at`
    do not count for it."""

    prefix = Text()
    tripped_at = Utc(null=True)
    recalls = Whole()
    reset_at = Utc(null=True)
    reset_by = Text(null=True)


class Heard(Table):
    """How far a node's events were taken in, by its own time."""

    node = Text()
    until = Utc()


class OnTheLine(Table):
    """Who was still on the line, by the node's time, after they had left its queues."""

    node = Text()
    phone = Text()
    at = Utc()


class Talk(Table):
    """Whom a client talked to last."""

    number = Text()
    scope = Text()
    agent = Text()
    at = Utc()


class User(Table):
    """A person who logs in. `password` is an argon2 hash, `queues` shell patterns with spaces between."""

    name = Text()
    password = Text(LINE)
    role = Text()
    agent = Text(null=True)
    queues = Text(PATTERNS, null=True)
    made_at = Utc()


class Session(Table):
    """A user who is logged in; `key` is the SHA-256 of what the browser has."""

    user = peewee.BigIntegerField()
    key = Text()
    made_at = Utc()
    seen_at = Utc()
    ends_at = Utc()


class OpenPage(Table):
    """An agent who has their page open, as far as is known `until` then; whoever serves it says so again and
    again."""

    agent = Text()
    until = Utc()


class Token(Table):
    """A program that may ask; `key` is the SHA-256 of its token."""

    name = Text()
    key = Text()
    scope = Text()
    queues = Text(PATTERNS, null=True)
    made_by = Text()
    made_at = Utc()


class Hook(Table):
    """How far a webhook's target was told of the journal, and which engine tells it."""

    name = Text()
    told = peewee.BigIntegerField()
    engine = Text(null=True)
    held_until = Utc(null=True)


# A partial index is used only where the query says its predicate in so many words; a bound parameter hides it
# from SQLite's planner. Hence literals.
WAITING = peewee.SQL(f"'{State.WAITING}'")
CLOSED = peewee.SQL(f"'{State.CLOSED}'")
HELD = peewee.SQL("(" + ", ".join(f"'{state}'" for state in sorted(LIVE)) + ")")

TABLES: tuple[type[Table], ...] = tuple(Table.__subclasses__())
"""All of them."""
