"""How the people in the simulated world behave: agents' phones, clients' phones, callers.

A behaviour says what a phone does once it rings; times are seconds. The defaults for outside numbers are
those of the set-up behind the recordings: numbers ending 0486 are busy, 0404 unallocated, 0480 never
answer, 0503 are congested, 0183 play early media and never answer; everybody else answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Answers:
    """Picks up `after` seconds; hangs up `talks` seconds after it was connected to somebody, or `hangs_up`
    seconds after it picked up, whether connected or not (None: the other side ends the call)."""

    after: float = 0.6
    talks: float | None = None
    hangs_up: float | None = None


@dataclass(frozen=True, slots=True)
class Refuses:
    """Rings for `after` seconds and then refuses with `cause`."""

    cause: str
    after: float = 0.0
    rings: bool = False


@dataclass(frozen=True, slots=True)
class Silent:
    """Rings until somebody stops trying."""


@dataclass(frozen=True, slots=True)
class EarlyMediaOnly:
    """An announcement for `plays` seconds (183), then NO_ANSWER; nobody ever picks up."""

    plays: float = 3.0


@dataclass(frozen=True, slots=True)
class Unregistered:
    """A phone that is not there: FreeSWITCH makes no channel at all."""

    cause: str = "SUBSCRIBER_ABSENT"


Behaviour = Answers | Refuses | Silent | EarlyMediaOnly | Unregistered


def Busy(after: float = 0.0) -> Refuses:
    return Refuses("USER_BUSY", after)


def Declines(after: float = 0.5) -> Refuses:
    return Refuses("CALL_REJECTED", after, rings=True)


def Unallocated() -> Refuses:
    return Refuses("UNALLOCATED_NUMBER")


def Congested() -> Refuses:
    return Refuses("NORMAL_TEMPORARY_FAILURE")


_BY_LAST_DIGITS: dict[str, Behaviour] = {
    "0486": Busy(),
    "0404": Unallocated(),
    "0480": Silent(),
    "0503": Congested(),
    "0183": EarlyMediaOnly(),
}
# The phones of the recordings' set-up; a name is the word and the extension's number.
_EXTENSION = re.compile(r"(agent|mute|busy|decline|early)\d+")
_BY_WORD: dict[str, Behaviour] = {
    "agent": Answers(after=0.6, hangs_up=6.6),
    "mute": Silent(),
    "busy": Busy(),
    "decline": Declines(after=0.5),
    "early": EarlyMediaOnly(),
}
ClientRule = Callable[[str, Random], Behaviour]


def usual_client(number: str, _random: Random) -> Behaviour:
    """What an outside number does unless somebody said otherwise."""
    return _BY_LAST_DIGITS.get(number[-4:], Answers(after=0.4, talks=5.0))


def extension_phone(user: str) -> Behaviour | None:
    """The behaviour of a phone of the recordings' set-up, such as `busy7001`; None: no such phone."""
    match = _EXTENSION.fullmatch(user)
    return _BY_WORD[match[1]] if match else None
