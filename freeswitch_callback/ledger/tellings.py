"""What a node's events tell, a burst of it in one transaction.

Tellings about different calls, members and numbers have nothing to do with each other, unless others connect
them (one call that was told with two numbers). So they are taken in turns: the first of each such group
together, with few statements for all; then the second; and so on. Within a group the order is kept.

Everybody who takes tellings is first `alone` with all they are about, in one order. Two engines that listen
to one FreeSWITCH, and take the same burst at once, so take it one after the other and never wait for each
other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from freeswitch_callback.core import facts
from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.errors import CallbackError
from freeswitch_callback.ledger import recording
from freeswitch_callback.ledger.database import Transaction
from freeswitch_callback.ledger.recording import Recorded, Told


class NotTaken(CallbackError):
    """The database takes none of these tellings, and will not another time."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A client was talked to. `number`: None if it is not known, or many share it; `scope`: of their recall;
    `remember`: note whom they talked to."""

    served: facts.Served
    number: str | None
    scope: str
    remember: bool = False

    @property
    def about(self) -> list[str]:
        of_call = recording.name_of_call(self.served.node, self.served.call_uuid)
        return [of_call] if self.number is None else [of_call, recording.name_of_number(self.number)]


@dataclass(frozen=True, slots=True)
class CalledOut:
    """An operator called this number, and talked."""

    reached: facts.Reached
    number: str

    @property
    def about(self) -> list[str]:
        return [recording.name_of_number(self.number)]


Telling = Told | Answered | CalledOut
Outcome = Recorded | int
"""What became of a missed call; else how many recalls were closed, 0 or 1."""


def take_all(transaction: Transaction, tellings: Sequence[Telling]) -> list[Outcome]:
    """What became of each, in order."""
    about = [telling.about for telling in tellings]
    transaction.alone(*sorted({name for names in about for name in names}))
    outcomes: dict[int, Outcome] = {}
    for turn in _turns(about):
        missed: dict[int, Told] = {}
        for index in turn:
            match tellings[index]:
                case Told() as told:
                    missed[index] = told
                case Answered() as answered:
                    outcomes[index] = _answered(transaction, answered)
                case CalledOut() as called_out:
                    outcomes[index] = _called_out(transaction, called_out)
        recorded = recording.record_independent(transaction, list(missed.values()))
        outcomes.update(zip(missed, recorded, strict=True))
    return [outcomes[index] for index in range(len(tellings))]


def _turns(about: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """Tellings, as indexes: the first of all that have to do with each other, the second, and so on."""
    by: dict[str, str] = {}  # of each name another one that it belongs to, or itself

    def belongs_to(name: str) -> str:
        while by.setdefault(name, name) != name:
            by[name] = name = by[by[name]]
        return name

    for first, *others in about:
        for other in others:
            by[belongs_to(other)] = belongs_to(first)
    turns: list[list[int]] = []
    next_turn: dict[str, int] = {}
    for index, names in enumerate(about):
        group = belongs_to(names[0])
        turn = next_turn.get(group, 0)
        next_turn[group] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(index)
    return iter(turns)


def _answered(transaction: Transaction, told: Answered) -> int:
    served, number, scope = told.served, told.number, told.scope
    recording.retract(transaction, served.node, served.call_uuid)
    if number is None:
        return 0
    by = served.operator or served.node
    closed = recording.close_served(
        transaction, number, scope, ClosedAs.SERVED_INBOUND, by, served.operator, served.at
    )
    if told.remember and served.operator is not None:
        recording.note_talk(transaction, number, scope, served.operator, served.at)
    return closed


def _called_out(transaction: Transaction, told: CalledOut) -> int:
    reached = told.reached
    by = reached.operator or reached.node
    return recording.close_reached(transaction, told.number, reached.domain, by, reached.operator, reached.at)
