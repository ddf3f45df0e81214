"""Who may do what: roles of people, scopes of tokens, and the queues that somebody is limited to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Role(StrEnum):
    """What a person is. An operator is bound to an agent, and sees the queues which that agent serves."""

    OPERATOR = "operator"
    SUPERVISOR = "supervisor"
    ADMIN = "admin"


class Scope(StrEnum):
    """What may be done, each including those before it: look; change what becomes of calls; delete for good,
    and what concerns all queues."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(other)


SCOPE_OF = {Role.OPERATOR: Scope.OPERATE, Role.SUPERVISOR: Scope.ADMIN, Role.ADMIN: Scope.ADMIN}
"""What a person of a role may do, in the queues that they see."""

_PATTERN = re.compile(r"[^\s\[\]\x00-\x1f\x7f]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Access:
    """Somebody who asks. `name` is for the journal; `queues` are shell patterns, None: all queues, and what
    has none. `agent`: the one that an operator is. `many`: may choose calls by a filter, not one by one
    only."""

    name: str
    scope: Scope
    queues: tuple[str, ...] | None = None
    agent: str | None = None
    role: Role | None = None
    many: bool = True

    def may(self, scope: Scope) -> bool:
        return self.scope.includes(scope)

    def sees(self, queue: str | None) -> bool:
        return self.queues is None or (queue is not None and covered(queue, self.queues))

    @property
    def limited(self) -> bool:
        return self.queues is not None


def is_pattern(text: str) -> bool:
    """Whether this can limit somebody: `*` and `?` are the only wild ones, so that all that ask agree."""
    return bool(_PATTERN.match(text))


def covered(queue: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(queue, pattern.replace("[", "[[]")) for pattern in patterns)
