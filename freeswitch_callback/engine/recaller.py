"""Calls clients back: one greenlet per attempt, from the claim to the agent's release.

The order is what makes a crash harmless. First the claim, the attempt and the reservation are on disk, in one
transaction, which says already that the call is about to be sent (where an agent is asked first, that is
written once they have accepted); then the agent is reserved at FreeSWITCH by compare-and-set and looked at
once more; only then it is sent. Whatever ends this process in between, the next one finds a row that tells
what may have happened (`reconciler`).
"""

from __future__ import annotations

import math
import random
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core import dispatch
from freeswitch_callback.core.attempt import FAULTS, Progress, calls_in, outcome
from freeswitch_callback.core.dispatch import Assignment, Operator, QueueRules
from freeswitch_callback.core.facts import Claim, Due, Event, Outcome, Say, Settlement
from freeswitch_callback.core.gates import Gate, Verdict
from freeswitch_callback.core.schedule import agent_was_away, settle
from freeswitch_callback.engine import first_try, offers
from freeswitch_callback.engine.attempts import Attempt, RecallRules, length_of_rest
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.crew import Crew
from freeswitch_callback.engine.figures import Figures
from freeswitch_callback.engine.first_try import FirstTry
from freeswitch_callback.engine.gatekeeper import Gatekeeper
from freeswitch_callback.engine.line import Line
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.engine.switchboard import Switchboard
from freeswitch_callback.errors import (
    CommandFailed,
    DatabaseUnreachable,
    FreeSwitchError,
    NotSent,
    UnsafeValue,
)
from freeswitch_callback.esl import callcenter, commands
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Ledger

log = structlog.get_logger(__name__)

T = TypeVar("T")

LEASE = 30.0
"""Seconds that a claim lasts unless it is renewed; the daemon renews three times as often."""

_MOST_RECALLS_AT_ONCE = 500
_AT_HAND = 4
"""Uuids, two for each recall."""
_FULL_FOR = 5.0
"""Seconds for which a queue with `at_once` recalls up is left alone, unless one of ours ends before."""
_FURTHEST_LOOK = 1000
"""Recalls read from the line at once, at most."""

_RECALL_AGAIN_AFTER, _AGENT_AGAIN_AFTER = 2.0, 10.0
"""Seconds that a recall and an agent who could not be brought together are left alone.

The recall's are fewer: its next try is with somebody else.
"""

_FEW, _A_MOMENT = 3, 0.01
"""For so many calls that are being ordered, what has become of others waits so many seconds at most."""

AT_ONCE = 1.0
"""Seconds from a look at an agent who is ours to the release of that agent, or there is none."""

LOOK_AT_AGENT_AGAIN = 2.0
"""Seconds after which a Reserved agent is looked at again: the queue itself passes through Reserved."""

_OVERSLEPT = "this engine stood still for so long that another may have taken the recall over"


class Round(NamedTuple):
    """What one look at a node has shown. `free_at`: the epoch second in which an agent becomes free for us
    without any event, if there is one; `idle`: whether one is free for whom there was no recall."""

    free_at: float | None
    idle: bool


class Recaller:
    """One node's recalls. `round()` starts what may start now, and `start_at_once()` what is known to be next
    without a look; `feed()` carries events to the attempts."""

    def __init__(
        self,
        node: Node,
        ledger: Ledger,
        engine: str,
        rules: Callable[[str], RecallRules],
        gatekeeper: Gatekeeper,
        stopping: Flag,
        wake: Callable[[], None],
        clock: Clock,
        line: Line,
        lease: float = LEASE,
        figures: Figures | None = None,
    ) -> None:
        self.node = node
        self._line = line
        self._figures = figures or Figures()
        self.lease = lease
        self.switchboard = Switchboard(clock)
        self.attempts: dict[str, Attempt] = {}  # by call uuid
        self._jobs: dict[str, Attempt] = {}
        self.ours: set[str] = set()  # call uuids that a greenlet of this process lives, claimed or not yet
        self._held: set[str] = set()  # agents of ours
        self._ledger = ledger
        self._engine = engine
        self._rules = rules
        self._gatekeeper = gatekeeper
        self._stopping = stopping
        self._wake = wake
        self._clock = clock
        self.in_between = 0  # attempts between claim and sending, or end and release: stopping waits for them
        self._queue_calls: dict[str, str] = {}  # call uuid of a recall in queue mode: its queue
        self._not_before: dict[int, float] = {}  # recalls that could not be sent just now (monotonic)
        self._crew = Crew(_MOST_RECALLS_AT_ONCE)
        self._uuids = [_uuid() for _ in range(_AT_HAND)]
        self._faulty_until = 0.0
        self._first_try = FirstTry(engine, clock)
        self._reach = 1  # how much further than usual the look at the line goes: many may be shut
        self._breakers_told: set[str] = set()  # prefixes
        self._starting: set[int] = set()  # recalls that are given to an agent, and not claimed yet
        self._ordering: set[int] = set()  # recalls that an agent has been found for, and not sent yet
        self._nothing_to_order = Flag()
        self._nothing_to_order.set()
        self._full: dict[str, float] = {}  # queues with as many recalls up as may be: until when (monotonic)

    # --- events ----------------------------------------------------------------------------------------

    def feed(self, event: Event) -> bool:
        """Take one event in; True if a recall may have become possible by it."""
        for attempt in self._concerned(event):
            attempt.feed(event)
        if not self._first_try.ours and self._reserved_by_others(event):
            self._first_try.others_at_work()
        return self.switchboard.feed(event)

    def _reserved_by_others(self, event: Event) -> bool:
        return event.get("CC-Agent-State") == "Reserved" and event.get("CC-Agent") not in self._held

    def _concerned(self, event: Event) -> list[Attempt]:
        if not self.attempts:
            return []
        if event.name == "BACKGROUND_JOB":
            attempt = self._jobs.get(event.get("Job-UUID") or "")
            return [attempt] if attempt else []
        return [self.attempts[call_uuid] for call_uuid in calls_in(event) & self.attempts.keys()]

    def interrupted(self) -> None:
        """The connection was lost for a while: of what is up, events may have been missed."""
        self.switchboard.interrupted()
        for attempt in self.attempts.values():
            attempt.interrupted = True

    # --- deciding --------------------------------------------------------------------------------------

    def round(self) -> Round:
        """Start every recall that may start now."""
        now = self._clock.time()
        if rest := self._first_try.rest:
            return Round(now + rest, idle=False)
        self._first_try.tries()
        operators = self.switchboard.operators_who_wait(self._held)
        free = dispatch.free(operators, now)
        left = self._left_to_others(free)
        ready = [operator for operator in free if operator.name not in left]
        free_at = dispatch.next_free(operators, now)
        if left:
            free_at = min(free_at or math.inf, now + min(left.values()))
        begun, more = 0, False
        if ready and self._may_start(now):
            queues = dispatch.open_queues(ready, self.switchboard.callers, self._queue_rules)
            queues -= self._full_queues()
            if queues:
                if self._first_try.ours:
                    self._line.wanted(queues)
                limit = min(self._enough_for(ready, self._reach), _FURTHEST_LOOK)
                begun, more = self._start(self._ledger.due(queues, limit), limit)
            if not more:
                self._first_try.nothing_is_due()
            elif not self._first_try.ours:
                free_at = min(free_at or math.inf, now + first_try.SOME_MORE_IN)
        return Round(free_at, idle=len(ready) > begun)

    def start_at_once(self) -> bool:
        """Start what was read of the lines before, if that is one for each agent who is free. False if a
        `round` is needed."""
        now = self._clock.time()
        if not self._first_try.ours or not self._may_start(now):
            return False
        operators = self.switchboard.operators_who_wait(self._held)
        ready = dispatch.free(operators, now)
        if len(ready) > self._crew.free_count():  # it would wait for one to end
            return False
        if ready and not self._start_from_the_line(ready, operators):
            return False
        return dispatch.next_free(operators, now) is None

    def _start_from_the_line(self, ready: list[Operator], operators: list[Operator]) -> bool:
        queues = {queue for operator in ready for queue in operator.tiers} - self._full_queues()
        self._line.wanted(queues)
        there = self._not_busy(self._line.first(queues, self._enough_for(ready)))
        shut: list[tuple[int, Verdict]] = []
        assignments = self._assign(there, self._with_known(operators, there), shut)
        if shut or len(assignments) < len(ready):
            return False
        self._begin(assignments, read_ahead=True)
        return True

    def _may_start(self, now: float) -> bool:
        return now >= self._faulty_until and not self._stopping.is_set()

    def _full_queues(self) -> set[str]:
        return {queue for queue, until in self._full.items() if until > self._clock.monotonic()}

    def _enough_for(self, ready: list[Operator], reach: int = 1) -> int:
        """How many recalls to look at for these agents: some may be for none of them, and some are busy."""
        return reach * (2 * len(ready) + 2) + len(self._starting) + len(self._not_before)

    def _queue_rules(self, queue: str) -> QueueRules:
        return self._rules(queue).queue

    def _not_busy(self, recalls: list[Due]) -> list[Due]:
        now = self._clock.monotonic()
        self._not_before = {id_: until for id_, until in self._not_before.items() if until > now}
        busy = self._starting | {attempt.recall.id for attempt in self.attempts.values()}
        busy |= self._not_before.keys()
        return [recall for recall in recalls if recall.id not in busy]

    def _start(self, recalls: list[Due], limit: int) -> tuple[int, bool]:
        """Call those that may be called; hold back those that may not, and look behind them. How many are
        being called now, and whether others stay due."""
        shut: list[tuple[int, Verdict]] = []
        there = self._not_busy(recalls)
        assignments = self._assign(there, self._operators_for(there), shut)[: self._first_try.most]
        self._begin(assignments)
        behind = len(recalls) == limit and len(shut) > len(recalls) // 2
        self._reach = min(self._reach * 4, _FURTHEST_LOOK) if behind else 1
        if shut:
            self._ledger.hold(shut, by=self._engine)
            self._line.changed()
        if behind:
            self._wake()
        return len(assignments), len(there) > len(shut) + len(assignments)

    def _assign(
        self, there: list[Due], operators: list[Operator], shut: list[tuple[int, Verdict]]
    ) -> list[Assignment]:
        return dispatch.assign(
            self._gatekeeper.sift(there, self._clock.now(), shut),
            operators,
            self.switchboard.callers,
            self._queue_rules,
            self._under_way(),
            self._clock.time(),
        )

    def _begin(self, assignments: list[Assignment], *, read_ahead: bool = False) -> None:
        for assignment in assignments:
            call_uuid = self._next_uuid()
            if assignment.agent is not None:
                self._held.add(assignment.agent)
            else:
                self._queue_calls[call_uuid] = assignment.recall.queue or ""
            self.ours.add(call_uuid)
            self._starting.add(assignment.recall.id)
            self._ordering.add(assignment.recall.id)
            self._nothing_to_order.clear()
            self._line.taken(assignment.recall)
            self._crew.spawn(self._call, assignment, call_uuid, read_ahead)

    def _operators_for(self, recalls: list[Due]) -> list[Operator]:
        """Who is free now that the ledger has answered, and the agents for whom a recall may wait."""
        operators = self.switchboard.operators_who_wait(self._held)
        left = self._left_to_others(dispatch.free(operators, self._clock.time()))
        return self._with_known([one for one in operators if one.name not in left], recalls, left)

    def _with_known(
        self, operators: list[Operator], recalls: list[Due], left: Collection[str] = ()
    ) -> list[Operator]:
        """Also the agents whom these clients know."""
        known = {recall.last_agent for recall in recalls if recall.last_agent is not None}
        known -= {operator.name for operator in operators}
        return operators + self.switchboard.operators_named(known, self._held.union(left))

    def _left_to_others(self, free: list[Operator]) -> dict[str, float]:
        """As `FirstTry.left`."""
        if self._first_try.ours:
            return {}
        return self._first_try.left({o.name: self.switchboard.free_since.get(o.name, 0.0) for o in free})

    def _under_way(self) -> Mapping[str, int]:
        """Queue-mode recalls whose client is not in the queue yet: there they count among the callers."""
        if not self._queue_calls:
            return {}
        return Counter(
            queue
            for call_uuid, queue in self._queue_calls.items()
            if call_uuid not in self.attempts or self.attempts[call_uuid].progress.answered is None
        )

    # --- one attempt -----------------------------------------------------------------------------------

    def _call(self, assignment: Assignment, call_uuid: str, read_ahead: bool) -> None:
        recall, agent = assignment.recall, assignment.agent
        rules = self._rules(recall.queue or "")
        attempt: Attempt | None = None
        sent = held_back = overtaken = closed = False
        held_until = self._clock.monotonic() + self.lease
        first = self._first_try.ours
        try:
            claim = self._ledger.claim(
                recall.id,
                engine=self._engine,
                lease=self.lease,
                node=self.node.name,
                agent=agent,
                mode=rules.mode,
                call_uuid=call_uuid,
                job_uuid=self._next_uuid(),
                judge=self._gatekeeper.judge,
                caps=self._gatekeeper.caps(recall.queue),
                sent_to=self.node.core_uuid if rules.accept_within is None else None,
            )
            if isinstance(claim, Verdict):
                held_back = True
                self._held_back(recall, claim)
                return
            if claim is None:
                reserved = self._ledger.reservations(self.node.name)
                others_at_work = any(one.engine != self._engine for one in reserved)
                if others_at_work or not read_ahead:  # else something else became of it since it was read
                    self._first_try.lost(to=(one.engine for one in reserved))
                overtaken = True
                if agent is not None and any(one.agent == agent for one in reserved):
                    self.switchboard.elsewhere[agent] = self._clock.time() + _AGENT_AGAIN_AFTER
                return
            if not first:
                self._first_try.left_to_us()
            progress = Progress(claim.mode, claim.call_uuid, claim.job_uuid)
            attempt = Attempt(claim, recall, progress, held_until)
            self._track(attempt)
            self._starting.discard(recall.id)
            sent = self._dial(attempt, rules)
            self._ordered(recall.id)
            self._breakers_told.discard(self._prefix(recall))
            if sent:
                self._line.sent()
                self._uuids += [_uuid() for _ in range(_AT_HAND - len(self._uuids))]
                closed = self.follow(attempt)
        except DatabaseUnreachable as error:
            log.error("recall_left_open", recall=recall.id, error=str(error), hint="settled once it is back")
        finally:
            self._starting.discard(recall.id)
            self._ordered(recall.id)
            self._line.is_over(recall, closed=closed)
            if attempt is not None:
                self._untrack(attempt)
            if agent is not None:
                self._held.discard(agent)
            self._queue_calls.pop(call_uuid, None)
            if not held_back:
                self._full.pop(recall.queue or "", None)
            self.ours.discard(call_uuid)
            if sent or held_back or (attempt is not None and attempt.somebody_else):
                self._wake()
            else:  # another engine has the recall or the agent, or something is wrong: not at once again
                self._not_before[recall.id] = self._clock.monotonic() + _RECALL_AGAIN_AFTER
                if overtaken:
                    self._wake()
                else:
                    self._rest(agent, _AGENT_AGAIN_AFTER)

    def _ordered(self, recall: int) -> None:
        self._ordering.discard(recall)
        if not self._ordering:
            self._nothing_to_order.set()

    def let_calls_be_ordered(self) -> None:
        """What has become of a call can wait for a moment. An agent and a client cannot who are being brought
        together right now, behind somebody else's transaction on its way to the disk."""
        if len(self._ordering) <= _FEW:
            self._nothing_to_order.wait(_A_MOMENT)

    def _held_back(self, recall: Due, verdict: Verdict) -> None:
        """The claim was refused by a gate, and the recall is looked at again when that opens."""
        if verdict.gate is Gate.CAPS and verdict.opens_at is None:  # `at_once`: the others need not be asked
            self._full[recall.queue or ""] = self._clock.monotonic() + _FULL_FOR
        if verdict.gate is not Gate.BREAKER:
            log.info("recall_held_back", recall=recall.id, gate=str(verdict))
        elif self._prefix(recall) not in self._breakers_told:  # once, not for each of the recalls behind it
            self._breakers_told.add(self._prefix(recall))
            log.info("breaker_open", recall=recall.id, gate=str(verdict))

    def _prefix(self, recall: Due) -> str:
        return self._gatekeeper.caps(recall.queue).prefix_of(recall.number)

    def _next_uuid(self) -> str:
        """Of those that were made beforehand: to ask the system for a random one takes as long as to look
        for a recall."""
        return self._uuids.pop() if self._uuids else _uuid()

    def _dial(self, attempt: Attempt, rules: RecallRules) -> bool:
        """Reserve and send. False if nothing was sent, and everything is as it was before."""
        self.in_between += 1
        try:
            return self._reserve_and_send(attempt, rules)
        finally:
            self.in_between -= 1

    def _reserve_and_send(self, attempt: Attempt, rules: RecallRules) -> bool:
        claim, recall = attempt.claim, attempt.recall
        reserved: bool | None = False  # None: FreeSWITCH was asked and has not answered
        originate: commands.Originate | None = None

        def render() -> None:
            nonlocal originate
            originate = self._rendered(claim, recall, rules)

        try:
            if claim.agent is not None:
                if not self._surely_held(attempt):
                    raise NotSent(f"{claim.agent} was not reserved: {_OVERSLEPT}")
                reserved = None
                reserved, row = callcenter.reserve_and_read(self.node, claim.agent, meanwhile=render)
                if not self._still_free(row) or not reserved:
                    attempt.somebody_else = True  # the picture of this agent is right now
                    return self._step_back(attempt, reserved)
                if rules.accept_within is not None and not self._accepted(attempt, rules):
                    return self._step_back(attempt, reserved)
            if originate is None or originate.contact != self._contact(claim):
                originate = self._originate(claim, recall, rules)
        except (FreeSwitchError, UnsafeValue) as error:
            log.error("recall_not_sent", recall=recall.id, agent=claim.agent, error=str(error))
            if isinstance(error, UnsafeValue):  # this agent's contact will not get better by trying again
                self._rest(claim.agent, 300.0)
            return self._step_back(attempt, reserved)
        # What was on record before we stood still, another may have taken over since, and have looked at the
        # agent before we reserved them.
        may_be_sent = self._may_be_sent(claim, rules) and attempt.verdict is None  # the reconciler's
        if not may_be_sent or not self._surely_held(attempt):
            return self._step_back(attempt, reserved)
        try:
            self.node.send_originate(originate, partial(self._surely_held, attempt))
            self._note_reaction(recall, claim.agent, rules)
        except CommandFailed as error:
            attempt.progress = replace(attempt.progress, ended=self._clock.time(), cause=str(error))
        except NotSent as error:
            note = f"never sent: {error}"
            attempt.verdict = Settlement(Outcome.FAILED, retry_in=0.0, counted=False, note=note)
        except FreeSwitchError as error:
            # It may have been sent. The attempt stays open; whoever is connected next finds out.
            log.warning("originate_unanswered", recall=recall.id, error=str(error))
        log.info("recall", recall=recall.id, node=self.node.name, agent=claim.agent, mode=str(claim.mode))
        return True

    def _note_reaction(self, recall: Due, name: str | None, rules: RecallRules) -> None:
        """How long after both were there: a recall with open gates, and an agent who is free. Where a person
        is asked first, it is theirs."""
        agent = self.switchboard.agents.get(name or "")
        free_since = self.switchboard.free_since.get(name or "")
        if (
            agent is None
            or free_since is None
            or recall.open_since is None
            or rules.accept_within is not None
        ):
            return
        wrapped_up = dispatch.wrap_up_ends(agent.last_bridge_end, agent.wrap_up_time, agent.ready_time)
        both = max(free_since, wrapped_up, recall.open_since.timestamp())
        self._figures.reaction.add(self._clock.time() - both)

    def _accepted(self, attempt: Attempt, rules: RecallRules) -> bool:
        """Whether the agent, who is reserved, has said yes on their page, and still is there for it."""
        claim, within = attempt.claim, rules.accept_within or 0.0
        decision = offers.wait_for_word(self._ledger, attempt, within, self._stopping, self._clock)
        if decision is not None and decision.say is Say.ACCEPT:
            attempt.somebody_else = not self._still_free(callcenter.read_agent(self.node, claim.agent or ""))
            still_open = any(self._gatekeeper.sift([attempt.recall], self._clock.now(), []))
            return still_open and not attempt.somebody_else
        attempt.somebody_else = True
        if decision is None and not self._stopping.is_set():
            log.info("recall_not_accepted", recall=claim.recall, agent=claim.agent)
            self._rest(claim.agent, rules.agent_rest)
        return False

    def hear_decisions(self) -> None:
        """Agents may have said something on their pages."""
        offers.hear(self._ledger, self.attempts.values())

    def ask_no_more(self) -> None:
        """Whoever waits for an agent's word looks whether we are stopping."""
        for attempt in self.attempts.values():
            attempt.changed.set()

    def _hang_up(self, attempt: Attempt) -> None:
        """The agent does not want the call that rings them."""
        attempt.hung_up = True
        try:
            callcenter.uuid_kill(self.node, attempt.claim.call_uuid)
        except FreeSwitchError as error:
            log.warning("not_hung_up", call_uuid=attempt.claim.call_uuid, error=str(error))

    def _may_be_sent(self, claim: Claim, rules: RecallRules) -> bool:
        """Whether it is on record as sent, and nobody has asked us to stop."""
        if self._stopping.is_set() or rules.accept_within is None:
            return not self._stopping.is_set()
        try:
            return self._ledger.dialling(claim, self.node.core_uuid) and not self._stopping.is_set()
        except DatabaseUnreachable:
            if claim.agent is not None:  # their row stays, until the database is back
                self._give_back(claim.agent, self._clock.within(AT_ONCE), talked=False)
            raise

    def _still_free(self, agent: Agent | None) -> bool:
        """A second look, now that the agent is ours: +OK tells only that their row was Waiting."""
        if agent is None:
            return False
        self.switchboard.seen(agent)
        return (
            agent.state == "Reserved"
            and agent.status in dispatch.ON_DUTY
            and agent.external_calls_count == 0
            and dispatch.wrap_up_ends(agent.last_bridge_end, agent.wrap_up_time, agent.ready_time)
            <= self._clock.time()
            and not self.switchboard.on_the_phone(agent)
        )

    def _surely_held(self, attempt: Attempt) -> bool:
        """Whether nobody can have taken it over. This process may have been stopped for a while, and what
        it held be another engine's now."""
        return self._clock.monotonic() < attempt.held_until

    def _while_ours(self, attempt: Attempt) -> Callable[[], bool] | None:
        """As long as this is true, its agent is ours to give back: surely while the lease lasts, then by the
        record, as of a moment ago. None: they are not. An agent does not wait for a database that is away."""
        if self._surely_held(attempt):
            return partial(self._surely_held, attempt)
        soon = self._clock.within(AT_ONCE)
        try:
            reserved = self._ledger.reservations(self.node.name)
        except DatabaseUnreachable:
            return self._clock.within(AT_ONCE)
        claim = attempt.claim
        ours = any(one.attempt == claim.attempt and one.engine == self._engine for one in reserved)
        return soon if ours else None

    def renewed(self, since: float, lease: float) -> None:
        """All leases were renewed, not before `since` (monotonic): of what was not lost by then."""
        for attempt in self.attempts.values():
            if since < attempt.held_until:
                attempt.held_until = since + lease

    def _step_back(self, attempt: Attempt, reserved: bool | None) -> bool:
        """Undo a claim of which nothing was sent. False, for `_reserve_and_send` to return."""
        claim = attempt.claim
        not_held = False
        if claim.agent is not None and (ours := self._while_ours(attempt)) is not None:
            not_held = reserved is False or self._give_back(claim.agent, ours, talked=False)
        elif claim.agent is not None and reserved is not False:
            # Whoever has taken it over may have let the agent go before we reserved them.
            self._give_back_late(claim.agent)
        decision = attempt.decision
        if decision is None or decision.say is Say.ACCEPT:
            self._patiently(
                lambda: self._ledger.abort(claim, unsent=True, released=not_held), "give a recall back"
            )
        else:
            self._patiently(
                lambda: self._ledger.obey(claim, decision, released=not_held), "do as an agent says"
            )
        return False

    def _rendered(self, claim: Claim, recall: Due, rules: RecallRules) -> commands.Originate | None:
        """As `_originate`; None where that raises."""
        try:
            return self._originate(claim, recall, rules)
        except UnsafeValue:
            return None

    def _contact(self, claim: Claim) -> str:
        agent = self.switchboard.agents.get(claim.agent or "")
        return agent.contact if agent else ""

    def _originate(self, claim: Claim, recall: Due, rules: RecallRules) -> commands.Originate:
        """Raises `UnsafeValue` if it cannot be sent."""
        return commands.Originate(
            job_uuid=claim.job_uuid,
            call_uuid=claim.call_uuid,
            entry=claim.attempt,
            mode=claim.mode.value,
            number=recall.number,
            dial_string=rules.way_to(recall.number),
            caller_id_number=rules.caller_id_number,
            contact=self._contact(claim),
            queue=recall.queue or "",
            ring_timeout=round(rules.ring_timeout),
            wait=recall.timewait,
            reason=str(recall.reason),
            missed_id=recall.missed_id,
            connect=rules.connect,
        )

    def follow(self, attempt: Attempt) -> bool:
        """Write down what happens until the attempt is over, then settle it and release the agent. Whether
        the recall is closed."""
        claim = attempt.claim
        while True:
            progress = attempt.progress
            if progress.answered and not attempt.answer_noted:
                attempt.answer_noted = True
                self._write("answer", partial(self._ledger.answered, claim, _utc(progress.answered)))
            if progress.connected and not attempt.connection_noted:
                attempt.connection_noted = True
                operator = progress.operator or claim.agent
                at = _utc(progress.connected)
                if self._write("connection", partial(self._ledger.connected, claim, at, operator)):
                    called_at = attempt.recall.called_at.timestamp()
                    self._figures.time_to_recall.add(progress.connected - called_at)
            if attempt.verdict is not None:
                break
            if outcome(progress) is not None and not attempt.interrupted:  # not of what has come since
                break
            if offers.declined(attempt) and not attempt.hung_up:
                self._hang_up(attempt)
            attempt.changed.wait()
            self.let_calls_be_ordered()
            attempt.changed.clear()
        rules = self._rules(claim.queue or "")
        recall = attempt.recall
        verdict = (
            attempt.verdict
            or offers.settlement(attempt, self._clock.time())
            or settle(attempt.progress, recall.attempts, recall.failures, rules.retry, random.random())
        )
        self.in_between += 1
        try:
            self._settle(attempt, verdict)
        finally:
            self.in_between -= 1
        return verdict.closed_as is not None

    def _settle(self, attempt: Attempt, settlement: Settlement) -> None:
        """Let the agent go, whatever the database does; then write the end of the attempt."""
        claim, rules = attempt.claim, self._rules(attempt.claim.queue or "")
        if settlement.hangup_cause in FAULTS:
            # A gateway or profile that is not there: every other recall would fail the same way.
            log.error("dial_string_at_fault", cause=settlement.hangup_cause, dial_string=rules.dial_string)
            self._faulty_until = self._clock.time() + 60.0
        given_back = False
        if claim.agent is not None and (ours := self._while_ours(attempt)) is not None:
            if agent_was_away(settlement, claim.mode) and not attempt.hung_up:
                agent = self.switchboard.agents.get(claim.agent)
                self._rest(claim.agent, length_of_rest(rules, agent, settlement.hangup_cause))
            talked = attempt.progress.connected is not None
            given_back = self._give_back(claim.agent, ours, talked=talked)
        ended = _utc(attempt.progress.ended or self._clock.time())
        settled = partial(self._ledger.settle, claim, settlement, ended, released=given_back)
        written = self._write("outcome", settled)
        log.info(
            "recall_ended", recall=claim.recall, agent=claim.agent, outcome=str(settlement.outcome),
            hangup_cause=settlement.hangup_cause, talked=round(attempt.progress.talked),
            closed_as=str(settlement.closed_as or ""),
        )  # fmt: skip
        if written:  # else whoever has taken it over may need them
            self._figures.outcomes[settlement.outcome] += 1
            if settlement.closed_as is not None:
                self._figures.closed[settlement.closed_as] += 1
            self._clear_marks(claim)

    def _give_back(self, name: str, ours: Callable[[], bool], *, talked: bool) -> bool:
        """Give an agent back to the queues, if they are still as we left them; False if it cannot be told, or
        we stood still meanwhile and they are not surely `ours` any more."""
        try:
            agent = callcenter.read_agent(self.node, name)
            if agent is not None and agent.state == "Reserved":
                on_demand = agent.status == "Available (On Demand)"
                ready_time = agent.ready_time
                if talked and agent.wrap_up_time:
                    ready_time = int(self._clock.time()) + agent.wrap_up_time
                    callcenter.set_ready_at(self.node, name, ready_time)
                to: Literal["Idle", "Waiting"] = "Idle" if talked and on_demand else "Waiting"
                callcenter.release(self.node, name, ours, to=to)
                self.switchboard.seen(agent._replace(state=to, ready_time=ready_time))
            if talked:
                self.switchboard.recall_ended[name] = self._clock.time()
        except FreeSwitchError as error:
            log.warning("agent_not_released", agent=name, error=str(error), hint="tried again once connected")
            return False
        return True

    def _give_back_late(self, name: str) -> None:
        """Unless another engine holds them by now; none can as long as our row is there. Should we end
        meanwhile, that row has the agent released."""
        held = self._patiently(
            partial(self._ledger.reserve, self.node.name, name, self._engine), "hold an agent"
        )
        if held is not None:
            self._clock.sleep(LOOK_AT_AGENT_AGAIN)
            soon = self._clock.within(AT_ONCE)
            ours = self._patiently(partial(self._ledger.take, held, self._engine), "hold an agent")
            if ours and self._give_back(name, soon, talked=False):
                self._patiently(partial(self._ledger.strike, held), "strike a reservation")

    def _clear_marks(self, claim: Claim) -> None:
        try:
            callcenter.forget_marks(self.node, claim.call_uuid)
        except FreeSwitchError as error:
            log.debug("marks_left", call_uuid=claim.call_uuid, error=str(error))

    def _rest(self, agent: str | None, seconds: float) -> None:
        if agent is not None:
            until = max(self.switchboard.rests.get(agent, 0.0), self._clock.time() + seconds)
            self.switchboard.rests[agent] = until

    def _write(self, what: str, work: Callable[[], bool]) -> bool:
        """False: it was refused."""
        written = self._patiently(work, f"write an {what}")
        if not written:
            log.warning("write_refused", what=what, hint="another engine has taken this recall over")
        return written

    def _patiently(self, work: Callable[[], T], what: str) -> T:
        return patiently(work, what=what, stopping=self._stopping, clock=self._clock)

    # --- what is under way -----------------------------------------------------------------------------

    def adopt(self, attempt: Attempt) -> None:
        """Follow an attempt that another process has begun."""
        self._track(attempt)
        self.ours.add(attempt.claim.call_uuid)
        self._crew.spawn(self._follow_adopted, attempt)

    def _follow_adopted(self, attempt: Attempt) -> None:
        try:
            self.follow(attempt)
        except DatabaseUnreachable as error:
            log.error("outcome_not_written", recall=attempt.claim.recall, error=str(error))
        finally:
            self._untrack(attempt)
            self.ours.discard(attempt.claim.call_uuid)
            self._line.changed(attempt.claim.queue or "")
            self._wake()

    def _track(self, attempt: Attempt) -> None:
        self.attempts[attempt.claim.call_uuid] = attempt
        self._jobs[attempt.claim.job_uuid] = attempt
        if attempt.claim.agent is not None:
            self._held.add(attempt.claim.agent)

    def _untrack(self, attempt: Attempt) -> None:
        self.attempts.pop(attempt.claim.call_uuid, None)
        self._jobs.pop(attempt.claim.job_uuid, None)
        if attempt.claim.agent is not None:
            self._held.discard(attempt.claim.agent)


def _uuid() -> str:
    return str(uuid.uuid4())


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
