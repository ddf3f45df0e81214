"""mod_callcenter's tables: agents, queues, tiers and members, in the words and columns of 1.10.12
(`agent_states`, `members_abandoned`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter

from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.dial import Dial

INSTANCE = "single_box"
STATUSES = ("Logged Out", "Available", "Available (On Demand)", "On Break")
STATES = ("Idle", "Waiting", "Receiving", "In a queue call", "Reserved")
ON_DUTY = ("Available", "Available (On Demand)")
AGENT_HEADER = (
    "name|instance_id|uuid|type|contact|status|state|max_no_answer|wrap_up_time|reject_delay_time|busy_delay_time|"
    "no_answer_delay_time|last_bridge_start|last_bridge_end|last_offered_call|last_status_change|no_answer_count|"
    "calls_answered|talk_time|ready_time|external_calls_count"
)
AGENT_COLUMNS = tuple(AGENT_HEADER.split("|"))
TIER_COLUMNS = ("queue", "agent", "state", "level", "position")
QUEUE_HEADER = (
    "name|strategy|moh_sound|time_base_score|tier_rules_apply|tier_rule_wait_second|tier_rule_wait_multiply_level|"
    "tier_rule_no_agent_no_wait|discard_abandoned_after|abandoned_resume_allowed|max_wait_time|"
    "max_wait_time_with_no_agent|max_wait_time_with_no_agent_time_reached|record_template|calls_answered|"
    "calls_abandoned|ring_progressively_delay|skip_agents_with_external_calls|agent_no_answer_status"
)
QUEUE_COLUMNS = tuple(QUEUE_HEADER.split("|"))
MEMBER_HEADER = (
    "queue|instance_id|uuid|session_uuid|cid_number|cid_name|system_epoch|joined_epoch|rejoined_epoch|bridge_epoch|"
    "abandoned_epoch|base_score|skill_score|serving_agent|serving_system|state|score"
)
MEMBER_COLUMNS = tuple(MEMBER_HEADER.split("|"))
Cells = tuple[str | None, ...]
_agent_values, _tier_values, _queue_values = (
    attrgetter(*columns) for columns in (AGENT_COLUMNS, TIER_COLUMNS, QUEUE_COLUMNS)
)


@dataclass(slots=True, eq=False)
class Agent:
    """A row of `agents`. Times are whole seconds since 1970, delays whole seconds."""

    name: str
    contact: str
    status: str = "Logged Out"
    state: str = "Waiting"
    type: str = "callback"
    uuid: str | None = None  # NULL until the first call: the JSON form leaves the column out
    max_no_answer: int = 3
    wrap_up_time: int = 0
    reject_delay_time: int = 3
    busy_delay_time: int = 3
    no_answer_delay_time: int = 0
    last_bridge_start: int = 0
    last_bridge_end: int = 0
    last_offered_call: int = 0
    last_status_change: int = 0
    no_answer_count: int = 0
    calls_answered: int = 0
    talk_time: int = 0
    ready_time: int = 0
    external_calls_count: int = 0
    instance_id: str = INSTANCE

    def row(self) -> Cells:
        return _cells(_agent_values(self))

    def free(self, now: float) -> bool:
        """May be offered a call of a queue now."""
        return (
            self.status in ON_DUTY
            and self.state == "Waiting"
            and self.last_bridge_end + self.wrap_up_time <= now
            and self.ready_time <= now
        )


@dataclass(slots=True, eq=False)
class Tier:
    queue: str
    agent: str
    level: int = 1
    position: int = 1
    state: str = "Ready"

    def row(self) -> Cells:
        return _cells(_tier_values(self))


@dataclass(slots=True, eq=False)
class Queue:
    """A queue's settings; seconds, 0 = without limit."""

    name: str
    strategy: str = "longest-idle-agent"
    max_wait_time: int = 0
    max_wait_time_with_no_agent: int = 0
    max_wait_time_with_no_agent_time_reached: int = 5
    exit_keys: str = ""
    discard_abandoned_after: int = 60
    abandoned_resume_allowed: bool = False
    moh_sound: str = "silence_stream://-1"
    time_base_score: str = "queue"
    tier_rules_apply: bool = False
    tier_rule_wait_second: int = 0
    tier_rule_wait_multiply_level: bool = False
    tier_rule_no_agent_no_wait: bool = True
    record_template: str = ""
    calls_answered: int = 0
    calls_abandoned: int = 0
    ring_progressively_delay: int = 0
    skip_agents_with_external_calls: bool = True
    agent_no_answer_status: str = "On Break"
    last_offered: str = ""  # round-robin goes on behind this agent

    def row(self) -> Cells:
        return _cells(_queue_values(self))


@dataclass(slots=True, eq=False)
class Member:
    """A row of `members`; without a leg it only remembers somebody who left."""

    queue: Queue
    uuid: str
    leg: Channel | None
    cid_number: str
    cid_name: str
    system_epoch: int
    joined_epoch: int
    base_score: int = 0
    rejoined_epoch: int = 0
    bridge_epoch: int = 0
    abandoned_epoch: int = 0
    serving_agent: str = ""
    state: str = "Waiting"
    left: Callable[[], None] = lambda: None
    no_agent_since: float = 0.0
    joined: float = 0.0
    offers: list[Offer] = field(default_factory=list)

    def score(self, now: float) -> int:
        return int(now) - self.joined_epoch + self.base_score

    def row(self, now: float) -> Cells:
        return (
            self.queue.name,
            INSTANCE,
            self.uuid,
            self.leg.uuid if self.leg is not None else "",
            self.cid_number,
            self.cid_name,
            *map(str, (self.system_epoch, self.joined_epoch, self.rejoined_epoch, self.bridge_epoch)),
            *map(str, (self.abandoned_epoch, self.base_score, 0)),
            self.serving_agent,
            INSTANCE if self.serving_agent else "",
            self.state,
            str(self.score(now)),
        )


@dataclass(slots=True, eq=False)
class Offer:
    """A member's call that rings at an agent, or that the agent has taken."""

    agent: Agent
    tier: Tier
    called: float
    answered: float = 0.0
    dial: Dial | None = None
    leg: Channel | None = None
    withdrawn: str = ""  # why we stopped it ourselves


@lru_cache(maxsize=10_000)
def _cells(values: tuple[object, ...]) -> Cells:
    """Of a thousand agents all are listed at every poll, and nobody has their turn meanwhile: most are
    as they were."""
    return tuple(map(_cell, values))


def _cell(value: object) -> str | None:
    if value is None or type(value) is str:
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
