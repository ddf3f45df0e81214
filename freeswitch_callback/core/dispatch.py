"""Which agent calls which client now, and why none does.

An agent may take a recall when mod_callcenter itself would give them a call (status, state, wrap-up), nobody
of ours has them, their phone is silent, they are not resting after a missed or declined recall, and the
callers who wait live in the queues that they serve leave them to us (`fairness`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from freeswitch_callback.core.callers import Callers
from freeswitch_callback.core.facts import Due, Mode
from freeswitch_callback.core.gates import Gate, Verdict

ON_DUTY = frozenset({"Available", "Available (On Demand)"})
_SERVING = frozenset({"Ready", "No Answer", "Offering", "Active Inbound", "Standby"})
"""Tier states of an agent whom the queue calls now or after the call that they are on, whose end tells
nothing of the tier; whether they are free is said by the agent's own state."""


class Fairness(StrEnum):
    """Whether a recall may take an agent whom a live caller could have."""

    LIVE_FIRST = "live-first"  # no: each caller who waits has a free agent left
    BY_ARRIVAL = "by-arrival"  # a recall keeps the place of its call against those who wait now
    RECALL_FIRST = "recall-first"


class Operator(NamedTuple):
    """One agent as the decision sees them. Times are epoch seconds of the switch's clock.

    `tiers`: the queues they serve, with level and position. `busy`: their phone has a live channel, or
    somebody of ours holds them. `rests_until`: after a recall that they missed or declined. `page`: they have
    theirs open.
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
    page: bool = True

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
    """`prefer_agent`: seconds for which a recall that is due waits for the agent whom the client talked to
    last, if that one is on duty; 0 waits for nobody. `page`: agents accept on their page, and who has none
    open is not asked."""

    mode: Mode = Mode.AGENT_FIRST
    fairness: Fairness = Fairness.LIVE_FIRST
    prefer_agent: float = 0.0
    page: bool = False


def free(operators: Iterable[Operator], now: float) -> list[Operator]:
    """The agents who could take a call now, longest idle first."""
    ready = [o for o in operators if (at := o.free_at()) is not None and at <= now]
    ready.sort(key=lambda o: o.idle_since)
    return ready


def next_free(operators: Iterable[Operator], now: float) -> float | None:
    """When the next agent becomes free without any event telling so."""
    return min((at for o in operators if (at := o.free_at()) is not None and at > now), default=None)


class _Left:
    """The free agents that are left, and how many of them each queue could give to its live callers.

    Each queue has its agents in the order in which recalls get them. A thousand agents and a thousand recalls
    are paired by looking at each about once.
    """

    def __init__(self, operators: Iterable[Operator], callers: Callers) -> None:
        self._callers = callers
        self._free: set[str] = set()
        self._taken: set[str] = set()
        self._lines: dict[str, deque[Operator]] = {}
        self._by_level: dict[str, Counter[int]] = {}
        lines: dict[str, list[Operator]] = {}
        for operator in operators:
            self._free.add(operator.name)
            for queue, (level, _) in operator.tiers.items():
                lines.setdefault(queue, []).append(operator)
                self._by_level.setdefault(queue, Counter())[level] += 1
        for queue, line in lines.items():
            line.sort(key=lambda o, queue=queue: (*o.tiers[queue], o.idle_since))  # type: ignore[misc]
            self._lines[queue] = deque(line)

    @property
    def queues(self) -> Collection[str]:
        return self._lines.keys()

    @property
    def anybody(self) -> bool:
        return len(self._taken) < len(self._free)

    def has(self, operator: Operator) -> bool:
        return operator.name in self._free and operator.name not in self._taken

    def take(self, operator: Operator) -> None:
        self._taken.add(operator.name)
        for queue, (level, _) in operator.tiers.items():
            self._by_level[queue][level] -= 1

    def able(self, queue: str, rule: QueueRules, recall: Due | None) -> Iterator[Operator]:
        """Those who may take a recall of this queue: by tier level and position, then longest idle; `recall`
        is None where any recall is meant."""
        line = self._lines.get(queue, deque())
        while line and line[0].name in self._taken:
            line.popleft()
        return (o for o in line if o.name not in self._taken and self.may_take(o, rule, recall))

    def may_take(self, operator: Operator, rule: QueueRules, recall: Due | None) -> bool:
        if rule.page and not operator.page:
            return False
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
    return {queue for queue in left.queues if _any(left.able(queue, rules(queue), None))}


def assign(
    recalls: Iterable[Due],
    operators: Collection[Operator],
    callers: Callers,
    rules: Callable[[str], QueueRules],
    under_way: Mapping[str, int],
    now: float,
) -> list[Assignment]:
    """Pair recalls, most urgent first, with free agents: tier level and position, then longest idle. No more
    of them are asked for than there are agents left.

    `under_way`: queue-mode recalls that no agent has taken yet, by queue. They, and the callers who wait,
    each use up one free agent of their queue. Never more assignments than free agents.
    """
    left = _Left(free(operators, now), callers)
    on_duty = {operator.name: operator for operator in operators if operator.status in ON_DUTY}
    assignments: list[Assignment] = []
    waiting = iter(recalls)
    while left.anybody and (recall := next(waiting, None)) is not None:
        queue = recall.queue or ""
        rule = rules(queue)
        agent = next(left.able(queue, rule, recall), None)
        if agent is None:
            continue
        known = on_duty.get(recall.last_agent or "") if _prefers(recall, rule, now) else None
        if known is not None and queue in known.tiers:
            if not left.has(known) or not left.may_take(known, rule, recall):
                continue
            agent = known
        if rule.mode is not Mode.QUEUE:
            assignments.append(Assignment(recall, agent.name))
        elif len(able := list(left.able(queue, rule, recall))) > _others(able, callers, under_way):
            assignments.append(Assignment(recall, None))
        else:
            continue
        left.take(agent)
    return assignments


def _prefers(recall: Due, rule: QueueRules, now: float) -> bool:
    """Whether it still waits for the agent whom the client knows. In queue mode the queue picks."""
    return rule.mode is not Mode.QUEUE and now < _waits_until(recall, rule)


def _waits_until(recall: Due, rule: QueueRules) -> float:
    return (recall.open_since or recall.due_at).timestamp() + rule.prefer_agent


def explain(
    recall: Due,
    operators: Collection[Operator],
    callers: Callers,
    rules: Callable[[str], QueueRules],
    under_way: Mapping[str, int],
    now: float,
) -> tuple[Verdict, Verdict]:
    """Why this recall gets an agent now or does not, as if it were the only one: fairness and agent."""
    queue = recall.queue or ""
    rule = rules(queue)
    assigned = assign([recall], operators, callers, rules, under_way, now)
    ready = [operator for operator in free(operators, now) if queue in operator.tiers]
    fair = Verdict(Gate.FAIRNESS, True, str(rule.fairness))
    if assigned:
        who = assigned[0].agent or f"{len(ready)} of {queue}"
        return fair, Verdict(Gate.AGENT, True, f"free: {who}")
    if _any(_Left(free(operators, now), callers).able(queue, rule, recall)):
        if rule.mode is Mode.QUEUE:
            waiting = _others(ready, callers, under_way)
            return Verdict(Gate.FAIRNESS, False, f"{len(ready)} free, {waiting} come first"), _free(ready)
        until = datetime.fromtimestamp(_waits_until(recall, rule), UTC)
        text = f"waits for {recall.last_agent}, whom the client talked to last"
        return fair, Verdict(Gate.AGENT, False, text, until)
    if ready and rule.page and not any(operator.page for operator in ready):
        return fair, _nobody(queue, operators, now, page=True)
    if ready:
        waiting = sum(callers.waiting(q) for q in {q for operator in ready for q in operator.tiers})
        text = f"{rule.fairness}: {waiting} who wait live come first"
        return Verdict(Gate.FAIRNESS, False, text), _free(ready)
    return fair, _nobody(queue, operators, now, page=rule.page)


def _any(operators: Iterator[Operator]) -> bool:
    return next(operators, None) is not None


def _free(ready: Sequence[Operator]) -> Verdict:
    return Verdict(Gate.AGENT, True, "free: " + ", ".join(operator.name for operator in ready[:3]))


def _nobody(queue: str, operators: Iterable[Operator], now: float, *, page: bool) -> Verdict:
    """Why there is no free agent."""
    serving = [operator for operator in operators if queue in operator.tiers]
    on_duty = [operator for operator in serving if operator.status in ON_DUTY]
    if not on_duty:
        none = f"no agent of {queue} is on duty"
        many = f"none of the {len(serving)} agents of {queue} is on duty"
        return Verdict(Gate.AGENT, False, many if serving else none)
    if page and not any(operator.page for operator in on_duty):
        text = f"none of the {len(on_duty)} agents on duty has the page open"
        return Verdict(Gate.AGENT, False, text)
    at = next_free(on_duty, now)
    soonest = None if at is None else datetime.fromtimestamp(at, UTC)
    return Verdict(Gate.AGENT, False, f"none of the {len(on_duty)} agents on duty is free", soonest)


def _others(able: Sequence[Operator], callers: Callers, under_way: Mapping[str, int]) -> int:
    """Those who will want one of these agents first, in whatever queue the agents serve."""
    queues = {queue for operator in able for queue in operator.tiers}
    return sum(callers.waiting(queue) + under_way.get(queue, 0) for queue in queues)


def serving(state: str) -> bool:
    """Whether a tier in this state gets calls."""
    return state in _SERVING
