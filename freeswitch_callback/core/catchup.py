"""Who gave up while nobody listened: from mod_callcenter's list of members to missed calls.

A queue keeps a row of each member who left it, state `Abandoned`, for `discard-abandoned-after` seconds.
`Abandoned` only says that somebody left *this queue*: gave up, timed out into the next one, was picked up or
transferred, pressed a key, or is one of our own recalls (`recall_through_the_queue_abandoned`). So a row is
told only if nothing speaks against it. Where a doubt remains it is not told: to call somebody who was served
is the worse mistake, and a CDR, which has the whole call, may still tell it.

What cannot be seen from here is a pick-up or a transfer out of a queue whose talk began *and* ended while
nobody listened. It leaves the same row as giving up, and is told as such.

Of mod_callcenter's columns, all whole seconds (1.10.12, source):

- A caller who comes back into a queue with `abandoned-resume-allowed` gets the newest row of their number
  again: `joined_epoch` and `abandoned_epoch` stay those of the first stay until they leave once more,
  `rejoined_epoch` is when they came back. Callers without a number share one such row.
- When FreeSWITCH starts, every row of before becomes `Abandoned`, whatever it was; `abandoned_epoch` stays
  as it is. So one that is 0, or before the join, means that the call was cut off while it waited.
- `bridge_epoch` is set when an agent talks to the member; after the talk the row is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from freeswitch_callback.core.facts import Missed, Reason
from freeswitch_callback.core.numbers import NumberRules, read

MEMBER = "member:"
"""What the made-up call uuid of a caught-up call begins with: the row does not say which call it was. Behind
it stand the member's uuid and the second in which it left, so that whoever reads the same row makes the same
one."""

_NEXT = 2
"""Seconds within which a caller who was moved on joins the next queue (whole seconds: one, and the next)."""
_RECORDED = 2.0
"""Seconds that a call is on record before it is in the list: CHANNEL_HANGUP comes before `Abandoned`, and
the database's clock is another one."""


class Member(Protocol):
    """A row of `queue list members`; `esl.callcenter.Member` is one. Epochs are whole seconds, 0 = never."""

    @property
    def queue(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    @property
    def cid_number(self) -> str: ...
    @property
    def cid_name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def system_epoch(self) -> int:
        """When the caller's leg was answered, of the first stay."""

    @property
    def joined_epoch(self) -> int: ...
    @property
    def rejoined_epoch(self) -> int: ...
    @property
    def bridge_epoch(self) -> int: ...
    @property
    def abandoned_epoch(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """A missed call that is on record. `recorded_at`: when it first was, by the database's clock."""

    member_uuid: str | None
    phone: str
    calldate: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class OwnCall:
    """A recall of ours that went through a queue; `ended` is None while nobody knows that it has."""

    number: str
    began: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody who was on the line at that time."""

    phone: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What is on record of one node and the numbers in its lists.

    `heard_until`: FreeSWITCH's time up to which all of its events were taken in, by whichever engine; None if
    never. `talked`: when somebody of the house last talked to a number (E.164). `on_the_line`: who was seen
    there after they had left the queues, by whichever engine.
    """

    heard_until: datetime | None = None
    calls: Sequence[Recorded] = ()
    own: Sequence[OwnCall] = ()
    talked: Mapping[str, datetime] = field(default_factory=dict)
    on_the_line: Sequence[Seen] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """What events told of one call. Seconds since 1970: the newest, and when somebody last talked to it."""

    phone: str
    at: float
    talked: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """A queue's `max-wait-time` and `max-wait-time-with-no-agent`, in seconds; 0 = none."""

    max_wait: int = 0
    no_agent: int = 0

    def may_have_ended(self, stay: int) -> bool:
        return any(0 < limit <= stay for limit in (self.max_wait, self.no_agent))


@dataclass(frozen=True, slots=True)
class AtTheSwitch:
    """What FreeSWITCH says and said beside its lists.

    `up_at`: when it began to tell events to us, seconds since 1970. `live`: the numbers on the channels that
    are up, as text. `last_answer`: when an agent last began to talk to a caller of any queue.
    """

    up_at: float
    live: Collection[str] = ()
    heard: Sequence[Heard] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    last_answer: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """The missed calls that nobody has told, and how many rows are none, by the rule that said so."""

    missed: list[Missed]
    left_out: dict[str, int]


def found(
    node: str,
    members: Iterable[Member],
    record: OnRecord,
    switch: AtTheSwitch,
    wants: Callable[[str], bool],
    rules: Callable[[str], NumberRules],
) -> Found:
    """`members`: the rows of *all* queues of the node. `wants`: whether a queue's calls are captured;
    `rules`: how a queue's callers' numbers are read."""
    people: dict[tuple[NumberRules, str], list[_Stay]] = {}
    stays = [_Stay(member) for member in members]
    readings = {stay.queue: rules(stay.queue) for stay in stays}
    for reading in set(readings.values()):
        for stay in stays:
            people.setdefault((reading, _person(stay.phone, reading)), []).append(stay)
    told: list[Missed] = []
    left_out: dict[str, int] = {}
    seen = {reading: _Seen(record, switch, reading) for reading in set(readings.values())}
    for (reading, person), theirs in people.items():
        wait = _last_wait(theirs)
        captured = [stay for stay in wait if wants(stay.queue)]
        # By the rules of the queue that it is told for; by others the same person may be another.
        if not captured or readings[captured[-1].queue] != reading:
            continue
        if wait[-1].state != "Abandoned":
            why: str | None = "waits or talks"
        else:
            why = seen[reading].objection(person, wait)
        if why is None:
            told.append(_missed(node, wait, captured[-1].queue, switch.limits.get(wait[-1].queue, Limits())))
        else:
            left_out[why] = left_out.get(why, 0) + 1
    told.sort(key=lambda missed: (missed.calldate, missed.call_uuid))
    return Found(told, left_out)


class _Stay:
    """One row, read as the last stay that it tells of. `left` is None where the call was cut off."""

    def __init__(self, member: Member) -> None:
        self.queue, self.uuid, self.state = member.queue, member.uuid, member.state
        self.phone, self.name = member.cid_number, member.cid_name
        self.resumed = member.rejoined_epoch > 0
        self.joined = max(member.joined_epoch, member.rejoined_epoch)
        answered = member.system_epoch
        self.began = answered if not self.resumed and 0 < answered <= self.joined else self.joined
        over = member.state == "Abandoned" and member.abandoned_epoch >= self.joined
        self.left = member.abandoned_epoch if over else None
        self.bridged = member.bridge_epoch > 0

    @property
    def place(self) -> tuple[int, float, str]:
        return self.joined, self.left if self.left is not None else float("inf"), self.uuid


def _last_wait(stays: list[_Stay]) -> list[_Stay]:
    """A person's newest stay, with those before it from which the same call was moved on."""
    ordered = sorted(stays, key=lambda stay: stay.place)
    wait = [ordered[-1]]
    for before in reversed(ordered[:-1]):
        if before.left is None or not before.left <= wait[0].joined <= before.left + _NEXT:
            break
        wait.insert(0, before)
    return wait


class _Seen:
    """All that speaks against a row, by the person whom it is about."""

    def __init__(self, record: OnRecord, switch: AtTheSwitch, rules: NumberRules) -> None:
        self._switch = switch
        self._rules = rules
        # A clock that was set back makes a mark in the future, which says nothing.
        until = record.heard_until.timestamp() if record.heard_until is not None else 0.0
        self._heard_until = until if until <= switch.up_at + 60 else 0.0
        self._of_member: dict[str, list[Recorded]] = {}
        self._of_person: dict[str, list[Recorded]] = {}
        for call in record.calls:
            self._of_member.setdefault(call.member_uuid or "", []).append(call)
            self._of_person.setdefault(_person(call.phone, rules), []).append(call)
        self._own = record.own
        self._talked = record.talked
        self._live = {_person(text, rules) for text in switch.live}
        self._heard: dict[str, list[Heard]] = {}
        for heard in switch.heard:
            self._heard.setdefault(_person(heard.phone, rules), []).append(heard)
        for seen in record.on_the_line:
            there = Heard(seen.phone, seen.at.timestamp())
            self._heard.setdefault(_person(seen.phone, rules), []).append(there)

    def objection(self, person: str, wait: list[_Stay]) -> str | None:
        """Why this is no missed call that nobody has told; None if it is one."""
        last = wait[-1]
        gone = last.left if last.left is not None else int(self._switch.up_at)
        for applies, why in (
            (last.bridged, "was being served"),
            (last.left is not None and last.left + 1 < self._heard_until, "was heard then"),
            (last.left is not None and last.left > int(self._switch.up_at), "is heard now"),
            (any(self._known(stay, person) for stay in wait), "known"),
            (self._is_own(last, gone), "our own recall"),
            (person in self._live, "on the line"),
            (any(h.at >= gone + 1 for h in self._heard.get(person, ())), "was heard since"),
            (self._served(person, wait[0].joined), "served"),
            (self._moved_on(last), "may have been answered elsewhere"),
        ):
            if applies:
                return why
        return None

    def _known(self, stay: _Stay, person: str) -> bool:
        """On record by its member, which names one stay unless it was resumed; or by its number and time: the
        call came in before the stay began, and was written down after it ended."""
        of_member = self._of_member.get(stay.uuid, ())
        if of_member and not stay.resumed:
            return True
        end = (stay.left if stay.left is not None else stay.joined) - _RECORDED
        if any(call.recorded_at.timestamp() >= end for call in of_member):
            return True
        return read(stay.phone, self._rules).e164 is not None and any(
            call.calldate.timestamp() < stay.joined + 1 and call.recorded_at.timestamp() >= end
            for call in self._of_person.get(person, ())
        )

    def _is_own(self, stay: _Stay, gone: int) -> bool:
        """A recall in queue mode joins the queue as the client, under the number as it was dialled."""
        return any(
            tail(stay.phone) == tail(call.number)
            and call.began.timestamp() < gone + 1
            and (call.ended is None or call.ended.timestamp() >= stay.joined)
            for call in self._own
        )

    def _served(self, person: str, since: int) -> bool:
        talked = self._talked.get(person)
        if talked is not None and talked.timestamp() >= since:
            return True
        return any(h.talked is not None and h.talked >= since for h in self._heard.get(person, ()))

    def _moved_on(self, stay: _Stay) -> bool:
        """Whoever waited as long as the queue allows went on in the dialplan; a talk in the next queue
        deletes the row there. It is sure that there was none only if no agent has answered anybody since."""
        if stay.left is None:
            return False
        limits = self._switch.limits.get(stay.queue, Limits())
        return limits.may_have_ended(stay.left - stay.joined) and self._switch.last_answer >= stay.left


def _missed(node: str, wait: list[_Stay], queue: str, limits: Limits) -> Missed:
    first, last = wait[0], wait[-1]
    timed_out = last.left is not None and 0 < limits.max_wait <= last.left - last.joined
    reason = Reason.FAILED if last.left is None else Reason.TIMEOUT if timed_out else Reason.ABANDONED
    return Missed(
        node=node,
        call_uuid=f"{MEMBER}{last.uuid}:{last.left or 0}",
        phone=last.phone,
        calldate=datetime.fromtimestamp(first.began, UTC),
        timewait=sum(stay.left - stay.joined for stay in wait if stay.left is not None),
        reason=reason,
        member_uuid=last.uuid,
        queue=queue,
        caller_name=last.name,
    )


def _person(text: str, rules: NumberRules) -> str:
    """A number as one writes it to tell people apart; those without one are told apart by what they sent."""
    return read(text, rules).e164 or text


def numbers(members: Iterable[Member], rules: Callable[[str], NumberRules]) -> Iterator[str]:
    """The numbers (E.164) to ask the record about."""
    return (number for m in members if (number := read(m.cid_number, rules(m.queue)).e164) is not None)


def since(members: Iterable[Member]) -> datetime | None:
    """From when on the record matters: when the first of these joined. None if there are none."""
    first = min((m.joined_epoch for m in members), default=None)
    return None if first is None else datetime.fromtimestamp(first - _RECORDED, UTC)


def _digits(text: str) -> str:
    return "".join(filter(str.isdecimal, text)) if text.isascii() else ""


def tail(text: str) -> str:
    """What all ways to write one number have in common, its last seven digits; of no number the text."""
    return _digits(text)[-7:] or text
