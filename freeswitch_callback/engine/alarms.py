"""What somebody has to know, by name: a line in the log when it is raised, and one when it is cleared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import structlog

from freeswitch_callback.engine.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)


class Name(StrEnum):
    DATABASE_AWAY = "database_away"
    DATABASE_READ_ONLY = "database_read_only"
    DISK_FULL = "disk_full"
    SCHEMA_TOO_NEW = "schema_too_new"
    FREESWITCH_AWAY = "freeswitch_away"
    SPOOLING = "spooling"
    CLOCK_JUMPED = "clock_jumped"
    BREAKER_OPEN = "breaker_open"
    OUTCOME_UNKNOWN = "outcome_unknown"
    NODE_GONE = "node_gone"
    LOOP_STUCK = "loop_stuck"
    MISSED_WITHOUT_NUMBER = "missed_without_number"
    PAGES_AWAY = "pages_away"


@dataclass(frozen=True, slots=True)
class Alarm:
    """`where`: which node, database, folder, prefix or loop it is about."""

    name: Name
    where: str
    text: str
    since: datetime


class Alarms:
    """Those of one engine. To raise what is raised already only renews its text."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._active: dict[tuple[Name, str], Alarm] = {}

    def raise_(self, name: Name, where: str, text: str) -> None:
        before = self._active.get((name, where))
        if before is None:
            self._active[name, where] = Alarm(name, where, text, self._clock.now())
            log.error("alarm_raised", alarm=str(name), where=where, text=text)
        elif before.text != text:
            self._active[name, where] = replace(before, text=text)

    def clear(self, name: Name, where: str) -> None:
        if self._active.pop((name, where), None) is not None:
            log.info("alarm_cleared", alarm=str(name), where=where)

    def only(self, name: Name, texts: Mapping[str, str]) -> None:
        """Of this name, those `where` there is a text, and no others."""
        for gone in [key for key in self._active if key[0] is name and key[1] not in texts]:
            self.clear(*gone)
        for where, text in texts.items():
            self.raise_(name, where, text)

    def active(self) -> list[Alarm]:
        """The oldest first."""
        return sorted(self._active.values(), key=lambda alarm: alarm.since)
