"""Users and tokens: what a name, a password and a queue pattern may be, and how they are kept.

argon2 takes tens of milliseconds of a processor and 19 MB, by design. It runs in a thread of its own that has
the processor when nobody else wants it, one after the other and with a pause behind each, so that a storm of
log-ins takes neither the hub nor the machine from the calls; who would wait too long is refused.
"""

from __future__ import annotations

import _thread
import hashlib
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import gevent
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

from freeswitch_callback.core.access import Role, Scope, is_pattern
from freeswitch_callback.errors import CallbackError, UsageError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.models import PATTERNS
from freeswitch_callback.ledger.people import Person

T = TypeVar("T")

SHORTEST, LONGEST = 10, 1000
"""Characters of a password."""

WAITING_AT_MOST = 50
"""Passwords that wait to be looked at; two seconds for each dozen."""

# OWASP's second choice ("Password Storage Cheat Sheet"): one lane, because the others are calls' time.
_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
_one_at_a_time = BoundedSemaphore(1)
_PAUSE = 3
"""Times as long as a password took: a storm of log-ins has a quarter of one processor."""
_NICENESS = 10
_waiting = 0

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}\Z")


class TooBusy(CallbackError):
    """So many passwords wait to be looked at that one more would wait too long."""


def name_of(text: str) -> str:
    """A user's or a token's name as it is kept. Raises `UsageError`."""
    name = text.lower()
    if not text.isascii() or not _NAME.match(name):
        raise UsageError(
            f"{text[:80]!r} is no name: letters, digits, '.', '_', '-' and '@', 64 characters at most"
        )
    return name


def hashed(password: str) -> str:
    """The argon2 hash of a new password. Raises `UsageError` for one that is none, `TooBusy`."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(f"a password has from {SHORTEST} to {LONGEST} characters, this one {len(password)}")
    try:
        raw = password.encode()
    except UnicodeEncodeError:
        raise UsageError("a password is text in UTF-8") from None
    return _in_turn(lambda: _hasher.hash(raw))


_NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdA$2gs4Xw5lO6P6ncyDyfDqnDGyA4tcBdAsXPjaZ+0s9Xo"
"""No password has it. It is looked at where there is no such user: that takes as long, and tells nothing."""


def right_password(person: Person | None, password: str) -> bool:
    """Whether this is the person's. Raises `TooBusy`."""
    known = _NOBODYS if person is None else person.password
    raw = password[: LONGEST + 1].encode("utf-8", "surrogatepass")

    def look() -> bool:
        try:
            return _hasher.verify(known, raw)
        except (Argon2Error, InvalidHashError):
            return False

    return _in_turn(look) and person is not None


def _in_turn(work: Callable[[], T]) -> T:
    global _waiting
    if _waiting >= WAITING_AT_MOST:
        raise TooBusy("too many log-ins at once; try again in a moment")
    _waiting += 1
    try:
        _one_at_a_time.acquire()
        began = time.monotonic()
        try:
            result: T = _own_thread().apply(_humbly, (work,))
            return result
        finally:
            gevent.spawn_later(_PAUSE * (time.monotonic() - began), _one_at_a_time.release)
    finally:
        _waiting -= 1


@cache
def _own_thread() -> ThreadPool:
    return ThreadPool(1)


def _humbly(work: Callable[[], T]) -> T:
    """With Linux a thread has a niceness of its own."""
    if sys.platform == "linux":
        thread = _thread.get_native_id()
        humble = max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread))  # less may only root
        os.setpriority(os.PRIO_PROCESS, thread, humble)
    return work()


def patterns(given: Collection[str]) -> tuple[str, ...] | None:
    """The queues that somebody is limited to; None for all. Raises `UsageError`."""
    for pattern in given:
        if not is_pattern(pattern):
            raise UsageError(
                f"{pattern[:80]!r} is no pattern of queues: write it like support@default or *@tenant, "
                "without spaces and brackets"
            )
    if len(" ".join(given)) > PATTERNS:
        raise UsageError(f"that are too many queues: {PATTERNS} characters at most")
    return tuple(given) or None


@dataclass(frozen=True, slots=True)
class NewUser:
    """Raises `UsageError` for what fits not together."""

    name: str
    role: Role
    agent: str | None = None
    queues: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.role is Role.OPERATOR) != (self.agent is not None):
            raise UsageError(
                "an operator is an agent of mod_callcenter: name it with --agent 1001@default"
                if self.agent is None
                else f"only an operator is bound to an agent, not a user who is {self.role}"
            )
        if self.queues is not None and self.role is not Role.SUPERVISOR:
            raise UsageError(
                "an operator sees the queues which their agent serves"
                if self.role is Role.OPERATOR
                else "an admin sees all queues; limit a supervisor"
            )


def add_user(ledger: Ledger, user: NewUser, password: str, by: str) -> None:
    """Raises `UsageError` if there is one of that name, or the password is none."""
    ledger.people.add_user(user.name, hashed(password), user.role, by, agent=user.agent, queues=user.queues)


def key_of(secret: str) -> str:
    """How a session or a token is kept: whoever reads the database is not let in by it.

    256 random bits want no slow hash: nobody guesses them.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


TOKEN = "fscb_"
"""How all tokens begin, so that what looks for leaked secrets finds them."""


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def add_token(ledger: Ledger, name: str, scope: Scope, by: str, queues: tuple[str, ...] | None = None) -> str:
    """The token, which is not kept and cannot be read again. Raises `UsageError` if the name is taken."""
    token = TOKEN + new_secret()
    ledger.people.add_token(name, key_of(token), scope, by, queues)
    return token
