"""What the engine and the pages' process tell each other.

The engine: `Start` first, then `News` for ever, and an `Answer` to each `Question`. The pages: `Started` or
`Failed` once, `Taken` for each `News`, `Question`, and `Word` that wants no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.engine.alarms import Alarm
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.figures import Histogram
from freeswitch_callback.errors import CallbackError
from freeswitch_callback.web.site import Settings


@dataclass(frozen=True, slots=True)
class Start:
    """All that the pages' process has to know beforehand. `pid`: the engine's."""

    database: str
    password: str | None = field(repr=False)
    listen: tuple[str, int]
    certificate: str | None
    key: str | None
    log_level: str
    engine: str
    pid: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """By queue; all that are not named go by those of None."""

    gates: Mapping[str | None, GateRules]
    recall: Mapping[str | None, RecallRules]


class Seen(NamedTuple):
    """What pages show of an agent."""

    status: str
    state: str
    contact: str
    last_bridge_end: int


@dataclass(frozen=True, slots=True)
class News:
    """What is not as it was last told; None, and empty: nothing. Of agents, tiers (the queues of an agent),
    callers (by queue) and counts (by the counter's name) those that differ, where None is: gone.
    `complete`: with this, all has been told."""

    complete: bool = False
    ready: bool | None = None
    database: bool | None = None
    nodes: list[dict[str, Any]] | None = None
    alarms: list[Alarm] | None = None
    callers: Mapping[str, int | None] = field(default_factory=dict)
    agents: Mapping[str, Mapping[str, Seen | None]] = field(default_factory=dict)
    tiers: Mapping[str, Mapping[str, tuple[str, ...] | None]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[Any, int]] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    rules: Rules | None = None
    settings: Settings | None = None


@dataclass(frozen=True, slots=True)
class Started:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Failed:
    """What the configuration has to do with it is in the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Taken:
    pass


class Ask(StrEnum):
    """The names of methods of `Live`."""

    DECIDE = "decide"
    JUDGED = "judged"


class Word(StrEnum):
    """The same."""

    WAKE = "wake"
    LOOK_WHO_HAS_A_PAGE = "look_who_has_a_page"


@dataclass(frozen=True, slots=True)
class Question:
    number: int
    ask: Ask
    given: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    number: int
    value: Any = None
    error: CallbackError | None = None
