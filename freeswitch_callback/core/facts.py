"""The values that pass between the rooms: what happened, and what is to be done about it.

Frozen, without behaviour, named in FreeSWITCH's and telephony's own words. Times are aware UTC datetimes;
durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Event(Protocol):
    """What `core` asks of a FreeSWITCH event; `esl.frames.Event` is one."""

    @property
    def name(self) -> str:
        """`Event-Name`: CHANNEL_HANGUP, CUSTOM, …"""

    @property
    def subclass(self) -> str | None:
        """`Event-Subclass` of a CUSTOM event, else None."""

    @property
    def timestamp(self) -> float:
        """`Event-Date-Timestamp`, in seconds since the epoch."""

    @property
    def body(self) -> bytes:
        """The text behind the headers (BACKGROUND_JOB's result), else b''."""

    def get(self, header: str, /) -> str | None:
        """One header's value, decoded; None where the event has no such header."""


class Reason(StrEnum):
    """Why a call was missed."""

    ABANDONED = "abandoned"  # gave up in the queue
    TIMEOUT = "timeout"
    NO_AGENT = "no_agent"  # timed out with nobody logged in
    EXIT_KEY = "exit_key"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    CANCELLED = "cancelled"  # gave up while an extension rang
    FAILED = "failed"  # any other failure
    REQUESTED = "requested"  # asked to be called back
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Missed:
    """Somebody called and was not served.

    `settled` tells that the leg's last event is in: until then the same call may be told again with more in
    it, or taken back by `Served`. `timewait` is in whole seconds, from FreeSWITCH's whole-second epochs.
    """

    node: str
    call_uuid: str
    phone: str
    calldate: datetime
    timewait: int
    reason: Reason
    calledid: str = ""
    operator: str | None = None
    member_uuid: str | None = None
    queue: str | None = None
    caller_name: str = ""
    hangup_cause: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Served:
    """The client talked to somebody after all; what was told of this call as missed is taken back."""

    node: str
    call_uuid: str
    phone: str
    queue: str | None
    operator: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Reached:
    """An operator called somebody outside, and they talked. Told when that call is over.

    `phone` as the operator dialled it, `talked` in seconds, `domain` the operator's own as FreeSWITCH knows
    it (`variable_domain_name`, '' where it does not), `at` when they began to talk.
    """

    node: str
    call_uuid: str
    phone: str
    operator: str | None
    domain: str
    at: datetime
    talked: float


class Mode(StrEnum):
    """Which side is called first."""

    AGENT_FIRST = "agent-first"
    CLIENT_FIRST = "client-first"
    QUEUE = "queue"


class Accept(StrEnum):
    """By what an agent takes a recall."""

    PHONE = "phone"  # it rings, and they answer
    PAGE = "page"  # nothing is dialled before they have said so there


class Outcome(StrEnum):
    """What became of one attempt."""

    CONNECTED = "connected"  # both sides answered and were bridged
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    UNALLOCATED = "unallocated"
    CLIENT_REJECTED = "client_rejected"
    CLIENT_HUNG_UP = "client_hung_up"  # answered, and gone before an agent was there
    AGENT_NO_ANSWER = "agent_no_answer"
    AGENT_DECLINED = "agent_declined"
    UNKNOWN = "unknown"


class ClosedAs(StrEnum):
    """Why a recall is over."""

    RECALLED = "recalled"
    SERVED_INBOUND = "served_inbound"
    SERVED_OUTBOUND = "served_outbound"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a missed call asks of the ledger: the recall that it opens or joins.

    `blocked` names the gate that stays shut: the recall is then written as closed. `delay`, `look_in` and
    `expire` are seconds from now: when it is due, when its gates are worth a look (calling hours may open
    later than it is due), and when it is over. If the number has an open recall of the same scope, this joins
    it: the highest priority, the earliest due and look, the latest expiry of all its calls.
    """

    number: str | None
    scope: str
    queue: str | None
    blocked: str | None = None
    delay: float = 0.0
    look_in: float = 0.0
    expire: float = 86400.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """A recall that may be called now, with what the decision and the operator's phone need of its calls."""

    id: int
    number: str
    scope: str
    queue: str | None
    priority: int
    attempts: int
    failures: int  # agent failures since the client was last tried: they cost the client nothing, but end
    due_at: datetime
    missed_id: int  # the newest missed call
    timewait: int  # of the newest
    reason: Reason  # of the newest
    called_at: datetime  # of the oldest: the place in the line
    last_agent: str | None = None  # whom the client talked to last
    open_since: datetime | None = None  # due, and as far as was foreseen with every gate open


@dataclass(frozen=True, slots=True)
class Claim:
    """One engine's hold on a recall and the attempt it writes before it dials.

    `fence` only grows: every result written under this claim carries it and is refused if a newer one exists.
    """

    recall: int
    fence: int
    attempt: int
    engine: str
    node: str
    mode: Mode
    number: str
    queue: str | None
    agent: str | None
    call_uuid: str
    job_uuid: str


class Say(StrEnum):
    """What is said of a recall that is offered to an agent."""

    ACCEPT = "accept"
    POSTPONE = "postpone"
    REJECT = "reject"
    SERVED = "served"  # by nobody on a page: the client talked to somebody meanwhile


@dataclass(frozen=True, slots=True)
class Decision:
    """A word on one attempt, mostly its agent's. `until`: when a postponed recall is due; `reason`: why it is
    rejected. Of a client who was served: `by` whom, `until` then, and as what it is closed."""

    attempt: int
    say: Say
    by: str
    until: datetime | None = None
    reason: str = ""


class Result(StrEnum):
    """What a conversation came to, by the operator's word."""

    REACHED = "reached"
    VOICEMAIL = "voicemail"
    WRONG_PERSON = "wrong_person"
    BAD_LINE = "bad_line"
    CALL_AGAIN = "call_again"  # the client asked for another moment


CALL_AGAIN = frozenset(Result) - {Result.REACHED}
"""Results after which the client is still to be called."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended and what the recall becomes: closed as something, or waiting again.

    `counted`: the client's phone has rung. `agent_failed`: the agent or the trunk was not there, which costs
    the client nothing, and is counted apart.
    """

    outcome: Outcome
    hangup_cause: str = ""
    closed_as: ClosedAs | None = None
    retry_in: float | None = None
    counted: bool = True
    agent_failed: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.outcome is Outcome.UNKNOWN:
            if self.closed_as is not None or self.retry_in is not None:
                raise ValueError("an unknown outcome is parked: neither closed nor retried")
        elif (self.closed_as is None) == (self.retry_in is None):
            raise ValueError("a settlement either closes the recall or says when it is due again")
