"""Asks the gates, for the engine and for people: what `look` says is what `Gatekeeper` does.

A recall is judged three times, each time by more. `sift` holds back what is shut by the clock or by the line,
before an agent is thought of. The claim asks all gates that what is on record can answer, in its transaction
(`judge`), because two engines could go over a cap together otherwise. And `dispatch` finds an agent, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from freeswitch_callback.core import dispatch, gates, numbers
from freeswitch_callback.core.dispatch import QueueRules
from freeswitch_callback.core.facts import Due
from freeswitch_callback.core.gates import CapRules, Case, GateRules, Verdict
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.switchboard import Switchboard

OnTheLine = Callable[[str, NumberRules], bool]
"""Whether a number (E.164) is on a call, or waits in a queue, on any node that is known."""


class Gatekeeper:
    """One engine's gates, as the configuration is now."""

    def __init__(self, rules: Callable[[str | None], GateRules], on_the_line: OnTheLine) -> None:
        self._rules = rules
        self._on_the_line = on_the_line

    def sift(self, recalls: Iterable[Due], now: datetime, shut: list[tuple[int, Verdict]]) -> Iterator[Due]:
        """Those that may be claimed as far as this can tell, looked at one by one as they are asked for; the
        others that are met (ids), with what shuts them, are added to `shut`."""
        for recall in recalls:
            rules = self._rules(recall.queue)
            verdict = gates.calling_hours(recall.number, rules, now)
            if verdict.open:
                verdict = gates.served(self._on_the_line(recall.number, rules.numbers))
            if verdict.open:
                yield recall
            else:
                shut.append((recall.id, verdict))

    def read_ahead(self, recall: Due, now: datetime) -> None:
        """What its number tells is kept. To find it out takes as long as all else that is decided between an
        agent and a call."""
        rules = self._rules(recall.queue)
        numbers.read(recall.number, rules.numbers)
        gates.calling_hours(recall.number, rules, now)

    def judge(self, case: Case, now: datetime) -> Verdict | None:
        """The first gate that is shut, of those that what is on record can answer.

        Pure: the ledger asks it inside a transaction, in whatever thread that runs.
        """
        return gates.first_shut(gates.verdicts(case, self._rules(case.queue), now))

    def caps(self, queue: str | None) -> CapRules:
        return self._rules(queue).caps


def look(
    recall: Due,
    nodes: Mapping[str, Switchboard],
    rules: GateRules,
    queue_rules: Callable[[str], QueueRules],
    now: datetime,
) -> list[Verdict]:
    """What the gates say that only the moment can answer: served, fairness, agent.

    Of several nodes, the one that would call; else the first that has agents of the queue.
    """
    on_the_line = any(board.on_the_line(recall.number, rules.numbers) for board in nodes.values())
    told = [
        dispatch.explain(recall, board.operators(()), board.callers, queue_rules, {}, now.timestamp())
        for board in _those_of(recall.queue or "", list(nodes.values()))
    ]
    best = next((pair for pair in told if all(verdict.open for verdict in pair)), told[0])
    return [gates.served(on_the_line), *best]


def _those_of(queue: str, boards: Sequence[Switchboard]) -> Sequence[Switchboard]:
    serving = [board for board in boards if any(queue in tiers for tiers in board.tiers.values())]
    return serving or boards[:1]
