"""The note on one leg, and what it comes to: a call that was missed, one that was served, an operator's call
that reached somebody, or none of ours.

What is noted comes from events (`capture`) or from a CDR (`cdr`); here it is judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from freeswitch_callback.core.facts import Missed, Reached, Reason, Served

OWN_CALL = "callback_entry"
"""The channel variable on every leg of our own recalls: the attempt's id. They are never misses."""

HOOKS = {"missed": "callback::missed", "request": "callback::request"}
"""What the dialplan's hook sets as `callback_hook`, and the event that it sends with it."""

CALLED_FROM = "called_from"
"""In `extra`: the caller's own number, as the network gave it, where they asked to be called at another."""

CUT_OFF = "cut off"  # ours: FreeSWITCH itself went away
_GIVEN_UP = {
    "BREAK_OUT": Reason.ABANDONED,  # what a caller's hangup gives (`abandoned`), though the docs say NONE
    "NONE": Reason.ABANDONED,
    "TIMEOUT": Reason.TIMEOUT,
    "NO_AGENT_TIMEOUT": Reason.NO_AGENT,
    "EXIT_WITH_KEY": Reason.EXIT_KEY,
    CUT_OFF: Reason.FAILED,
}
_DIRECT = {
    "USER_BUSY": Reason.BUSY,
    "NO_ANSWER": Reason.NO_ANSWER,
    "NO_USER_RESPONSE": Reason.NO_ANSWER,
    "ALLOTTED_TIMEOUT": Reason.NO_ANSWER,
    "ORIGINATOR_CANCEL": Reason.CANCELLED,
    "NORMAL_CLEARING": Reason.CANCELLED,  # nobody had answered, and the caller hung up
}
_LEG_MOVED_ON = frozenset({"ATTENDED_TRANSFER", "BLIND_TRANSFER"})
_NOT_A_TALK = frozenset(_DIRECT) - {"NORMAL_CLEARING"} | {"CALL_REJECTED", "UNALLOCATED_NUMBER"}


@dataclass(frozen=True, slots=True)
class Direct:
    """Calls straight to extensions that count, and the queue whose agents call back."""

    context: str
    destination: re.Pattern[str]
    queue: str


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """Which calls are ours. `queues` are shell patterns; `called_number` headers, the first that is set."""

    queues: tuple[str, ...] = ("*",)
    direct: tuple[Direct, ...] = ()
    called_number: tuple[str, ...] = ("variable_sip_req_user", "Caller-Destination-Number")
    variables: tuple[str, ...] = ()
    hook_queue: str | None = None

    def wants(self, queue: str) -> bool:
        return any(fnmatchcase(queue, pattern) for pattern in self.queues)

    def direct_queue(self, context: str, destination: str) -> str | None:
        for rule in self.direct:
            if rule.context == context and rule.destination.search(destination):
                return rule.queue
        return None


@dataclass(slots=True)
class Stay:
    """One stay in one queue. `joined` and `left` are FreeSWITCH's whole seconds since the epoch."""

    queue: str
    member_uuid: str
    joined: int
    joined_at: float  # the event's own, finer time; as `joined` where no event told
    left: int | None = None
    cancel_reason: str = ""
    served: bool = False  # an agent talked to the caller


@dataclass(slots=True)
class Leg:
    """What is known of one channel.

    `phone` is who is at its other end: the caller, or whom somebody called by it. `who` is the agent or the
    user whose leg this is, where FreeSWITCH knows that; `domain` their tenant.
    """

    uuid: str
    from_the_start: bool = False  # CHANNEL_CREATE was seen: answers and bridges were, too
    inbound: bool = False
    own: bool = False
    of_agent: bool = False  # a queue called an agent by it
    who: str = ""
    domain: str = ""
    phone: str = ""
    caller_name: str = ""
    calledid: str = ""
    created: float = 0.0
    context: str = ""
    destination: str = ""
    answered_at: float | None = None
    bridged: dict[str, float] = field(default_factory=dict)  # the other leg: since when
    talked_at: float | None = None
    stays: list[Stay] = field(default_factory=list)
    offered_to: str | None = None
    agent: str | None = None
    hook: str = ""  # the subclass of the dialplan's event
    hooked_at: float = 0.0  # 0 where only the leg's variables tell of it
    asked_for: str = ""  # the number that the caller keyed in, to be called at
    hook_queue: str | None = None
    ended: float | None = None
    ended_for_good: bool = False
    other_number: str = ""  # whom it talked to, by its own last event
    hangup_cause: str = ""
    bridge_cause: str = ""  # how the last leg that this one called ended
    extra: dict[str, str] = field(default_factory=dict)
    told: Missed | Served | Reached | None = None
    touched: float = 0.0


def whole(text: str | None) -> int:
    """A whole number as FreeSWITCH writes it, of at most 16 digits; 0 where there is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 16 else 0


def read_last_stay(leg: Leg, variable: Callable[[str], str | None]) -> None:
    """Note the leg's last stay from its `cc_*` variables, where no event has told of it or of its end.

    Until the leg is complete they may still speak of the stay before: CHANNEL_HANGUP comes before
    `member-queue-end`, and then `cc_queue_joined_epoch` is not older than `cc_queue_canceled_epoch`.
    """
    if variable("cc_side") != "member" or not (joined := whole(variable("cc_queue_joined_epoch"))):
        return
    if not leg.stays or leg.stays[-1].joined < joined:
        queue, member = variable("cc_queue") or "", variable("cc_member_uuid") or ""
        leg.stays.append(Stay(queue, member, joined, float(joined)))
    last = leg.stays[-1]
    if last.left is not None:
        return
    left = whole(variable("cc_queue_canceled_epoch"))
    if left > last.joined or (left == last.joined and leg.ended_for_good):
        last.left = left
        last.cancel_reason = variable("cc_cancel_reason") or ""


def read_talk(leg: Leg, variable: Callable[[str], str | None], bridged: float) -> None:
    """Note a conversation that only the leg's variables tell of. `bridged`: seconds, 0 for never.

    An agent's answer is told in whole seconds. The bridge that it led to, if that was in the same second, has
    the moment; else a stay that began in that second is the one that was answered.
    """
    answered = float(whole(variable("cc_queue_answered_epoch")))
    if answered:
        answered = bridged if answered <= bridged < answered + 1.0 else answered + 0.999999
    elif bridged and leg.bridge_cause not in _NOT_A_TALK:
        answered = bridged
    if answered:
        leg.talked_at = max(leg.talked_at or 0.0, answered)
        leg.agent = leg.agent or variable("cc_agent")


def read_hook(leg: Leg, variable: Callable[[str], str | None]) -> None:
    """Note what the dialplan's hook has set, also where its event was not heard. Then it is not known when:
    whoever talked at all was served, to call them is the worse mistake."""
    leg.hook = leg.hook or HOOKS.get(variable("callback_hook") or "", "")
    if not leg.hook:
        return
    leg.offered_to = leg.offered_to or variable("callback_operator") or None
    leg.hook_queue = leg.hook_queue or variable("callback_queue") or None
    if leg.hook == HOOKS["request"]:
        leg.asked_for = variable("callback_number") or leg.asked_for


def verdict(node: str, leg: Leg, rules: CaptureRules) -> Missed | Served | None:
    """What this leg is as far as it is known: missed, served, or no call of ours (None)."""
    if leg.own or leg.hangup_cause in _LEG_MOVED_ON:
        return None
    talked = leg.talked_at or 0.0
    after = max((at for at, stay in enumerate(leg.stays, 1) if stay.served), default=0)
    waits = [stay for stay in leg.stays[after:] if stay.joined_at > talked]
    wanted = [stay for stay in waits if rules.wants(stay.queue)]
    direct_queue = None if leg.stays or not leg.inbound else rules.direct_queue(leg.context, leg.destination)
    over = leg.ended is not None
    if wanted:
        return _missed(node, leg, waits, wanted[-1], None) if over or leg.hook else None
    if leg.hook and talked <= leg.hooked_at:
        return _missed(node, leg, waits, None, leg.hook_queue or direct_queue or rules.hook_queue)
    if direct_queue is not None and not talked:
        return _missed(node, leg, waits, None, direct_queue) if over else None
    if talked and (leg.stays or direct_queue is not None or leg.hook):
        queue = leg.stays[-1].queue if leg.stays else leg.hook_queue or direct_queue
        operator = leg.agent or leg.offered_to or ("" if leg.stays else leg.destination)
        return Served(node, leg.uuid, leg.phone, queue, operator or None, _utc(talked))
    return None


def reached(node: str, leg: Leg, others: Sequence[Leg]) -> Reached | None:
    """What this leg is if somebody of the house called out by it, and it is over.

    `others` are those that it was bridged with, in this order. An answer and a bridge of its own are enough:
    the bridge passes the answer on (`direct_answered`).
    """
    if leg.inbound or leg.of_agent or leg.ended is None or leg.answered_at is None or not leg.bridged:
        return None
    if leg.own or any(other.own for other in others):
        return None
    began = max(leg.answered_at, min(leg.bridged.values()))
    caller = others[0] if others else Leg("")
    return Reached(
        node=node,
        call_uuid=leg.uuid,
        phone=leg.phone,
        operator=caller.who or caller.agent or caller.phone or leg.other_number or None,
        domain=leg.domain or caller.domain,
        at=_utc(began),
        talked=leg.ended - began,
    )


def _missed(node: str, leg: Leg, waits: list[Stay], stay: Stay | None, queue: str | None) -> Missed:
    ended = int(leg.ended or 0)
    if stay is not None or waits:
        last = stay or waits[-1]
        reason = _GIVEN_UP.get(waits[-1].cancel_reason or "NONE", Reason.ABANDONED)
        timewait = sum(
            max(0, (w.left if w.left is not None else ended or w.joined) - w.joined) for w in waits
        )
        queue, member = leg.hook_queue or last.queue, last.member_uuid
        operator = leg.offered_to
    else:
        reason = _direct_reason(leg)
        timewait = max(0, ended - int(leg.created)) if ended else 0
        member, operator = None, leg.offered_to or leg.destination
    extra = dict(leg.extra)
    if leg.hook == HOOKS["request"]:
        reason = Reason.REQUESTED
        if leg.asked_for:
            extra[CALLED_FROM] = leg.phone
    return Missed(
        node=node,
        call_uuid=leg.uuid,
        phone=leg.asked_for or leg.phone,
        calldate=_utc(leg.created),
        timewait=timewait,
        reason=reason,
        calledid=leg.calledid,
        operator=operator or None,
        member_uuid=member or None,
        queue=queue or None,
        caller_name=leg.caller_name,
        hangup_cause=leg.hangup_cause,
        extra=extra,
        settled=leg.ended_for_good,
    )


def _direct_reason(leg: Leg) -> Reason:
    if leg.hangup_cause == "ORIGINATOR_CANCEL":
        return Reason.CANCELLED
    if leg.bridge_cause and leg.bridge_cause not in ("failure", "SUCCESS"):
        return _DIRECT.get(leg.bridge_cause, Reason.FAILED)
    return _DIRECT.get(leg.hangup_cause, Reason.FAILED)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
