"""An attempt under way, and the rules by which one queue's clients and agents are treated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gevent.event import Event as Flag

from freeswitch_callback.core.attempt import Progress, advance
from freeswitch_callback.core.dispatch import Fairness, QueueRules
from freeswitch_callback.core.facts import Claim, Decision, Due, Event, Mode, Settlement
from freeswitch_callback.core.schedule import RetryRules, agent_rest
from freeswitch_callback.engine.switchboard import Switchboard
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.ledger import Ledger

_LONGEST_REST = timedelta(hours=1)
_DELAYS = ("busy_delay_time", "reject_delay_time", "no_answer_delay_time")


@dataclass(frozen=True, slots=True)
class RecallRules:
    """How one queue's clients are called back. Times in seconds.

    `accept_within`: nothing is dialled before the agent has said so on their page, and after that long
    another agent is asked. None: to pick up the phone says it.
    """

    dial_string: str
    caller_id_number: str
    extension_dial_string: str = "user/{number}"
    connect: str = ""
    mode: Mode = Mode.AGENT_FIRST
    fairness: Fairness = Fairness.LIVE_FIRST
    prefer_agent: float = 0.0
    ring_timeout: float = 30.0
    agent_rest: float = 60.0
    accept_within: float | None = None
    retry: RetryRules = field(default_factory=RetryRules)

    def way_to(self, number: str) -> str:
        """The dial string for a client: E.164 goes out, an extension of the house stays inside."""
        return self.dial_string if number.startswith("+") else self.extension_dial_string

    @property
    def queue(self) -> QueueRules:
        """What `dispatch` goes by."""
        page = self.accept_within is not None and self.mode is not Mode.QUEUE
        return QueueRules(self.mode, self.fairness, self.prefer_agent, page)


class Attempt:
    """An attempt under way: what is known of it, and a flag for the greenlet that lives it.

    `held_until` (monotonic): before that, no other engine can have taken it over. `interrupted`: some of its
    events may have been missed; until FreeSWITCH was asked, its end is not judged by those that were heard.
    """

    def __init__(self, claim: Claim, recall: Due, progress: Progress, held_until: float) -> None:
        self.claim = claim
        self.held_until = held_until
        self.recall = recall
        self.progress = progress
        self.changed = Flag()
        self.somebody_else = False  # it was the agent: any other may take the recall at once
        self.verdict: Settlement | None = None  # how it ended, where no event can tell
        self.decision: Decision | None = None  # the agent's word
        self.hung_up = False  # because of it
        self.answer_noted = False
        self.connection_noted = False
        self.interrupted = False

    def feed(self, event: Event) -> None:
        progress = advance(self.progress, event)
        if progress is not self.progress:
            self.progress = progress
            self.changed.set()

    def caught_up(self) -> None:
        """What may have been missed is known now."""
        self.interrupted = False
        self.changed.set()


def length_of_rest(rules: RecallRules, agent: Agent | None, cause: str) -> float:
    """Seconds for which an agent who was not there is left alone."""
    delays = {name: getattr(agent, name, 0) for name in _DELAYS}
    return max(rules.agent_rest, agent_rest(cause, delays))


def note_rests(
    switchboard: Switchboard, ledger: Ledger, node: str, rules: Callable[[str], RecallRules], now: datetime
) -> None:
    """Have the switchboard know the agents who rest, by what is on record: only the engine that called them
    remembers."""
    for away in ledger.agents_away(node, now - _LONGEST_REST):
        agent = switchboard.agents.get(away.agent)
        length = length_of_rest(rules(away.queue or ""), agent, away.hangup_cause)
        until = away.ended_at.timestamp() + length
        switchboard.rests[away.agent] = max(switchboard.rests.get(away.agent, 0.0), until)
