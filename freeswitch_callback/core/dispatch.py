"""Which agent calls which client now.

An agent may take a recall when mod_callcenter itself would give them a call (status, state, wrap-up), nobody
of ours has them, their phone is silent, they are not resting after a missed or declined recall, and the
callers who wait live in the queues that they serve leave them to us (`fairness`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from freeswitch_callback.core.callers import Callers
from freeswitch_callback.core.facts import Due, Mode

ON_DUTY = frozenset({"Available", "Available (On Demand)"})
_SERVING = frozenset({"Ready", "No Answer"})


class Fairness(StrEnum):
    """Whether a recall may take an agent whom a live caller could have."""

    LIVE_FIRST = "live-first"  # no: each caller who waits has a free agent left
    BY_ARRIVAL = "by-arrival"  # a recall keeps the place of its call against those who wait now
    RECALL_FIRST = "recall-first"


@dataclass(frozen=True, slots=True)
class Operator:
    """One agent as the decision sees them. Times are epoch seconds of the switch's clock.

    `tiers`: the queues they serve, with level and position. `busy`: their phone has a live channel, or
    somebody of ours holds them. `rests_until`: after a recall that they missed or declined.
    """

    name: str
    status: str
    state: str
    contact: str
    tiers: Mapping[str, tuple[int, int]]
    free_from: float = 0.0
    idle_since: float = 0.0
    rests_until: float = 0.0
    busy: bool = False

    def free_at(self) -> float | None:
        """When they are free, as far as is known now; None while something else must happen first."""
        if self.status not in ON_DUTY or self.state != "Waiting" or self.busy:
            return None
        return max(self.free_from, self.rests_until)


def wrap_up_ends(last_bridge_end: int, wrap_up_time: int, ready_time: int) -> float:
    """From when on an agent's row counts as free: wrap-up ends without an event (mod_callcenter's source)."""
    return float(max(last_bridge_end + wrap_up_time if last_bridge_end else 0, ready_time))


@dataclass(frozen=True, slots=True)
class Assignment:
    """Call this client with this agent; in queue mode the queue picks, and `agent` is None."""

    recall: Due
    agent: str | None


@dataclass(frozen=True, slots=True)
class QueueRules:
    mode: Mode = Mode.AGENT_FIRST
    fairness: Fairness = Fairness.LIVE_FIRST


def free(operators: Iterable[Operator], now: float) -> list[Operator]:
    """The agents who could take a call now, longest idle first."""
    ready = [o for o in operators if (at := o.free_at()) is not None and at <= now]
    return sorted(ready, key=lambda o: o.idle_since)


def next_free(operators: Iterable[Operator], now: float) -> float | None:
    """When the next agent becomes free without any event telling so."""
    return min((at for o in operators if (at := o.free_at()) is not None and at > now), default=None)


class _Left:
    """The free agents that are left, and how many of them each queue could give to its live callers."""

    def __init__(self, operators: Iterable[Operator], callers: Callers) -> None:
        self.operators = list(operators)
        self._callers = callers
        self._by_level: dict[str, Counter[int]] = {}
        for operator in self.operators:
            for queue, (level, _) in operator.tiers.items():
                self._by_level.setdefault(queue, Counter())[level] += 1

    def take(self, operator: Operator) -> None:
        self.operators.remove(operator)
        for queue, (level, _) in operator.tiers.items():
            self._by_level[queue][level] -= 1

    def able(self, queue: str, rule: QueueRules, recall: Due | None) -> list[Operator]:
        """Those who may take a recall of this queue; `recall` is None where any recall is meant."""
        return [o for o in self.operators if queue in o.tiers and self._may_take(o, rule, recall)]

    def _may_take(self, operator: Operator, rule: QueueRules, recall: Due | None) -> bool:
        if rule.fairness is Fairness.RECALL_FIRST:
            return True
        if rule.mode is Mode.QUEUE and rule.fairness is Fairness.LIVE_FIRST:
            return True  # nobody is reserved: `assign` counts the agents that the callers leave
        first = self._callers.first(tuple(operator.tiers))
        if first is None:
            return True
        if rule.fairness is Fairness.BY_ARRIVAL and (recall is None or recall.called_at.timestamp() < first):
            return True
        return self._enough_without(operator)

    def _enough_without(self, operator: Operator) -> bool:
        """Whether the callers who wait in this agent's queues have an agent each without this one.

        Only agents whom those queues would call no later count: tier rules may make the next level wait.
        """
        waiting = {queue: n for queue in operator.tiers if (n := self._callers.waiting(queue))}
        others = (
            sum(n for level, n in self._by_level[queue].items() if level <= operator.tiers[queue][0]) - 1
            for queue in waiting
        )
        return sum(waiting.values()) <= min(others)


def open_queues(
    operators: Collection[Operator], callers: Callers, rules: Callable[[str], QueueRules]
) -> set[str]:
    """The queues for which a recall could start now, given these free agents: what to ask the ledger for."""
    left = _Left(operators, callers)
    queues = {queue for operator in operators for queue in operator.tiers}
    return {queue for queue in queues if left.able(queue, rules(queue), None)}


def assign(
    recalls: Sequence[Due],
    operators: Sequence[Operator],
    callers: Callers,
    rules: Callable[[str], QueueRules],
    under_way: Mapping[str, int],
) -> list[Assignment]:
    """Pair recalls, most urgent first, with free agents (longest idle first within tier level and position).

    `under_way`: queue-mode recalls that no agent has taken yet, by queue. They, and the callers who wait,
    each use up one free agent of their queue. Never more assignments than free agents.
    """
    left = _Left(operators, callers)
    assignments = []
    for recall in recalls:
        queue = recall.queue or ""
        rule = rules(queue)
        able = left.able(queue, rule, recall)
        if not able:
            continue
        agent = min(able, key=lambda o: (*o.tiers[queue], o.idle_since))
        if rule.mode is not Mode.QUEUE:
            assignments.append(Assignment(recall, agent.name))
        elif len(able) > _others(able, callers, under_way):
            assignments.append(Assignment(recall, None))
        else:
            continue
        left.take(agent)
    return assignments


def _others(able: Sequence[Operator], callers: Callers, under_way: Mapping[str, int]) -> int:
    """Those who will want one of these agents first, in whatever queue the agents serve."""
    queues = {queue for operator in able for queue in operator.tiers}
    return sum(callers.waiting(queue) + under_way.get(queue, 0) for queue in queues)


def serving(state: str) -> bool:
    """Whether a tier in this state gets calls."""
    return state in _SERVING
