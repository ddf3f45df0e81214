"""Who may look and act: users, their sessions, and tokens of programs.

Of a password there is its argon2 hash, of a session and of a token the SHA-256 of a random text: what is on
record lets nobody in.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from freeswitch_callback.errors import NotFound, UsageError
from freeswitch_callback.ledger.database import Database, Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import OpenPage, Session, Token, User, clean
from freeswitch_callback.ledger.prepared import Query, prepared

MOST_SESSIONS = 20
"""Of one user; the oldest end."""

SEEN_EVERY = 60.0
"""Seconds within which it is not written again that a session is in use, unless it would end sooner."""


@dataclass(frozen=True, slots=True)
class Person:
    """`queues`: the shell patterns that a supervisor is limited to, None for all; `agent`: whom an operator
    is in mod_callcenter."""

    id: int
    name: str
    password: str
    role: str
    agent: str | None
    queues: tuple[str, ...] | None
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Program:
    """A token, without what lets in."""

    name: str
    scope: str
    queues: tuple[str, ...] | None
    made_by: str
    made_at: datetime


class People:
    """As `Ledger`, of which it is a part: every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Users

    def add_user(
        self,
        name: str,
        password: str,
        role: str,
        by: str,
        *,
        agent: str | None = None,
        queues: tuple[str, ...] | None = None,
    ) -> None:
        """Raises `UsageError` if the name is taken."""

        def add(transaction: Transaction) -> None:
            transaction.alone(f"user {name}")
            if _user(transaction, name) is not None:
                raise UsageError(f"there is a user {name!r} already; `user list` shows them")
            given: Row = {"name": name, "password": password, "role": role, "agent": agent}
            transaction.insert(User, **given, queues=_text(queues), made_at=transaction.now)
            note(transaction, by, "user added", user=name, role=role)

        self._database.write(add)

    def users(self) -> list[Person]:
        """By name."""
        return [
            _person(row) for row in self._database.read(lambda t: t.rows(User.select().order_by(User.name)))
        ]

    def user(self, name: str) -> Person | None:
        row = self._database.read(lambda t: _user(t, name))
        return None if row is None else _person(row)

    def set_password(self, name: str, password: str, by: str) -> None:
        """Their sessions end. Raises `NotFound`."""

        def change(transaction: Transaction) -> None:
            user = _known(transaction, name)
            transaction.change(User.update(password=password).where(User.id == user))
            transaction.change(Session.delete().where(Session.user == user))
            note(transaction, by, "password set", user=name)

        self._database.write(change)

    def remove_user(self, name: str, by: str) -> None:
        """Their sessions end. Raises `NotFound`."""

        def remove(transaction: Transaction) -> None:
            user = _known(transaction, name)
            transaction.change(Session.delete().where(Session.user == user))
            transaction.change(User.delete().where(User.id == user))
            note(transaction, by, "user removed", user=name)

        self._database.write(remove)

    # Sessions

    def begin_session(self, person: Person, key: str, lifetime: float, idle: float) -> bool:
        """`key` is the hash of what the browser has. False if this person is not what they were when the
        password was looked at: gone, or it has another one now. Sessions that are over are forgotten."""

        def begin(transaction: Transaction) -> bool:
            now = transaction.now
            asked = transaction.locked(User.select().where(User.id == person.id))
            row = transaction.row(asked)
            if row is None or row["password"] != person.password:
                return False
            over = (Session.ends_at <= now) | (Session.seen_at <= now - timedelta(seconds=idle))
            transaction.change(Session.delete().where(over))
            newest = Session.select(Session.id).where(Session.user == person.id)
            kept = [r["id"] for r in transaction.rows(newest.order_by(Session.id.desc()))][
                MOST_SESSIONS - 1 :
            ]
            transaction.change(Session.delete().where(Session.id << kept))
            transaction.insert(
                Session,
                user=person.id,
                key=key,
                made_at=now,
                seen_at=now,
                ends_at=transaction.after(lifetime),
            )
            return True

        return self._database.write(begin, durable=False)

    def session(self, key: str, idle: float, *, seen: bool = True) -> Person | None:
        """Whose session this is, if it is not over; `idle`: seconds without a request after which it is.
        `seen`: this is a request."""

        def look(transaction: Transaction) -> tuple[Row, float] | None:
            row = transaction.row(_of_session(key), dated=True)
            if row is None:
                return None
            unseen, left = transaction.now - row.pop("seen_at"), row.pop("ends_at") - transaction.now
            over = left <= timedelta(0) or unseen >= timedelta(seconds=idle)
            return None if over else (row, unseen.total_seconds())

        found = self._database.glance(look)
        if found is None:
            return None
        row, unseen = found
        if seen and unseen >= min(SEEN_EVERY, idle / 4):
            self._database.write(
                lambda t: t.change(Session.update(seen_at=t.now).where(Session.key == key)), durable=False
            )
        return _person(row)

    def end_session(self, key: str) -> bool:
        return bool(self._database.write(lambda t: t.change(Session.delete().where(Session.key == key))))

    # Tokens

    def add_token(
        self, name: str, key: str, scope: str, by: str, queues: tuple[str, ...] | None = None
    ) -> None:
        """`key` is the hash of the token. Raises `UsageError` if the name is taken."""

        def add(transaction: Transaction) -> None:
            transaction.alone(f"token {name}")
            if transaction.row(Token.select().where(Token.name == name)) is not None:
                raise UsageError(f"there is a token {name!r} already; `token list` shows them")
            given: Row = {"name": name, "key": key, "scope": scope, "queues": _text(queues)}
            transaction.insert(Token, **given, made_by=by, made_at=transaction.now)
            note(transaction, by, "token added", token=name, scope=scope)

        self._database.write(add)

    def tokens(self) -> list[Program]:
        """By name."""
        rows = self._database.read(lambda t: t.rows(Token.select().order_by(Token.name)))
        return [_program(row) for row in rows]

    def token(self, key: str) -> Program | None:
        row = self._database.read(lambda t: t.row(Token.select().where(Token.key == key)))
        return None if row is None else _program(row)

    def revoke(self, name: str, by: str) -> None:
        """Raises `NotFound`."""

        def remove(transaction: Transaction) -> None:
            if not transaction.change(Token.delete().where(Token.name == name)):
                raise NotFound(f"there is no token {clean(name)!r}; `token list` shows those there are")
            note(transaction, by, "token revoked", token=name)

        self._database.write(remove)

    # Pages

    def pages_open(self, agents: Collection[str], lasts: float, left: Collection[str] = ()) -> None:
        """These agents have their page open, for `lasts` seconds unless it is said again; who `left` has
        not."""

        def say(transaction: Transaction) -> None:
            until = transaction.after(lasts)
            gone = (OpenPage.until <= transaction.now) | (OpenPage.agent << sorted(left))
            transaction.change(OpenPage.delete().where(gone))
            if agents:
                written = OpenPage.insert_many([{"agent": agent, "until": until} for agent in sorted(agents)])
                written = written.on_conflict(conflict_target=[OpenPage.agent], preserve=[OpenPage.until])
                transaction.rows(written.returning(OpenPage.id))

        self._database.write(say, durable=False)

    def with_open_page(self) -> set[str]:
        """The agents who have their page open, on whatever engine."""
        rows = self._database.read(
            lambda t: t.rows(OpenPage.select(OpenPage.agent).where(OpenPage.until > t.now))
        )
        return {row["agent"] for row in rows}


def _user(transaction: Transaction, name: str) -> Row | None:
    return transaction.row(User.select().where(User.name == name))


def _known(transaction: Transaction, name: str) -> int:
    row = transaction.row(transaction.locked(User.select().where(User.name == name)))
    if row is None:
        raise NotFound(f"there is no user {clean(name)!r}; `user list` shows those there are")
    return int(row["id"])


@prepared
def _of_session(key: str) -> Query:
    """Asked with every request, and by every page that hears of a change."""
    columns = (*User._meta.sorted_fields, Session.seen_at, Session.ends_at)
    return Session.select(*columns).join(User, on=(Session.user == User.id)).where(Session.key == key)


def _person(row: Row) -> Person:
    return Person(**row | {"queues": _patterns(row["queues"])})


def _program(row: Row) -> Program:
    kept = ("name", "scope", "made_by", "made_at")
    return Program(**{name: row[name] for name in kept}, queues=_patterns(row["queues"]))


def _text(queues: tuple[str, ...] | None) -> str | None:
    return None if queues is None else " ".join(queues)


def _patterns(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(text.split())
