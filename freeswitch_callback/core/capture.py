"""From FreeSWITCH's events to facts: who called and was not served.

A caller's leg lives from CHANNEL_CREATE to CHANNEL_HANGUP_COMPLETE and may sit in several queues on its way
(a *stay* each). What decides is the end of the leg, never the end of a stay: a member who timed out of one
queue may be answered in the next.

- **Missed** is a leg that ends with a stay which no conversation followed, a direct call that nobody took,
  or a call that the dialplan named (`callback::missed`, `callback::request`).
- **Served** means that the leg was bridged with another leg *that was answered*: with early media there is a
  bridge although nobody answers (recording `direct_early_media`), and whoever is picked out of a queue is
  bridged under the other leg's name (`intercepted_from_the_queue`).

Order is kept between the events of one leg, not between legs. So everything is a note on a leg, compared by
the events' own time, and the verdict is taken anew whenever a note changes it: at CHANNEL_HANGUP for the
first time, so that the call is on disk then, and for good at CHANNEL_HANGUP_COMPLETE.

A leg that was up before anybody listened is judged by its own variables; what a CDR tells is judged the same
way (`cdr`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from freeswitch_callback.core.facts import Event, Missed, Reason, Served

EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
)
SUBCLASSES = ("callcenter::info", "callback::missed", "callback::request")

OWN_CALL = "callback_entry"
"""The channel variable on every leg of our own recalls: the attempt's id. They are never misses."""

_OWN = f"variable_{OWN_CALL}"
_REMEMBER = 300.0  # seconds of event time that an ended leg stays known, for what comes late or twice

_CUT_OFF = "cut off"  # ours: FreeSWITCH itself went away
_GIVEN_UP = {
    "BREAK_OUT": Reason.ABANDONED,  # what a caller's hangup gives (`abandoned`), though the docs say NONE
    "NONE": Reason.ABANDONED,
    "TIMEOUT": Reason.TIMEOUT,
    "NO_AGENT_TIMEOUT": Reason.NO_AGENT,
    "EXIT_WITH_KEY": Reason.EXIT_KEY,
    _CUT_OFF: Reason.FAILED,
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


@dataclass(slots=True)
class Leg:
    """What is known of one channel."""

    uuid: str
    from_the_start: bool = False  # CHANNEL_CREATE was seen: answers and bridges were, too
    inbound: bool = False
    own: bool = False
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
    hooked_at: float = 0.0
    hook_queue: str | None = None
    ended: float | None = None
    ended_for_good: bool = False
    hangup_cause: str = ""
    bridge_cause: str = ""  # how the last leg that this one called ended
    extra: dict[str, str] = field(default_factory=dict)
    told: Missed | Served | None = None
    touched: float = 0.0


class Capture:
    """The facts of one node's events. Feed it everything; it keeps a note for each live channel."""

    def __init__(self, node: str, rules: CaptureRules) -> None:
        self.node = node
        self.rules = rules
        self._legs: dict[str, Leg] = {}
        self._gone: deque[tuple[float, str]] = deque()

    def feed(self, event: Event) -> list[Missed | Served]:
        """What this event tells that was not told before, in the order of its telling."""
        if event.name == "CUSTOM":
            handler = self._custom(event)
        else:
            handler = _CHANNEL.get(event.name)
        if handler is None:
            return []
        touched = handler(self, event)
        self._forget(event.timestamp)
        facts = (self._tell(leg) for leg in touched)
        return [fact for fact in facts if fact is not None]

    @property
    def legs(self) -> int:
        """How many are noted: those that are up, and those that ended a short while ago."""
        return len(self._legs)

    def keep(self, live: Container[str], before: float) -> None:
        """Forget the legs of which nothing was heard since `before`, unless FreeSWITCH says that they are up.

        Their end was told while nobody listened. `before`: epoch seconds, of FreeSWITCH's clock.
        """
        for uuid in [u for u, leg in self._legs.items() if leg.touched < before and u not in live]:
            del self._legs[uuid]

    def end_all(self, at: float) -> list[Missed | Served]:
        """FreeSWITCH is gone (`at`: epoch seconds), and every call without a word: who waited was missed."""
        facts = []
        for leg in self._legs.values():
            if leg.ended is None:
                leg.ended, leg.ended_for_good = at, True
                for stay in leg.stays:
                    if stay.left is None:
                        stay.left, stay.cancel_reason = int(at), _CUT_OFF
                facts.append(self._tell(leg))
        self._legs.clear()
        self._gone.clear()
        return [fact for fact in facts if fact is not None]

    # --- notes -----------------------------------------------------------------------------------------

    def _custom(self, event: Event) -> Callable[[Capture, Event], list[Leg]] | None:
        if event.subclass == "callcenter::info":
            return _CALLCENTER.get(event.get("CC-Action") or "")
        return Capture._hook if event.subclass in SUBCLASSES else None

    def _note(self, event: Event) -> Leg:
        """The leg that the event is about, with what its first event told of the caller."""
        uuid = event.get("Unique-ID") or ""
        leg = self._legs.get(uuid)
        if leg is None:
            leg = self._legs[uuid] = Leg(uuid)
        leg.touched = event.timestamp
        if not leg.created:
            leg.created = whole(event.get("Caller-Channel-Created-Time")) / 1e6 or event.timestamp
            leg.inbound = event.get("Call-Direction") == "inbound"
            # Once somebody picks the call up, Caller-ID-Number is theirs; Orig- stays the caller's.
            leg.phone = (
                event.get("Caller-Orig-Caller-ID-Number") or event.get("Caller-Caller-ID-Number") or ""
            )
            leg.caller_name = (
                event.get("Caller-Orig-Caller-ID-Name") or event.get("Caller-Caller-ID-Name") or ""
            )
            leg.calledid = _first(event.get, self.rules.called_number)
            leg.context = event.get("Caller-Context") or ""
            leg.destination = event.get("Caller-Destination-Number") or ""
            # Set by the originate, so it is there from the leg's first event on.
            leg.own = event.get(_OWN) is not None
        return leg

    def _created(self, event: Event) -> list[Leg]:
        self._note(event).from_the_start = True
        return []

    def _answered(self, event: Event) -> list[Leg]:
        leg = self._note(event)
        leg.answered_at = leg.answered_at or event.timestamp
        return [leg, *self._talks(leg)]

    def _bridged(self, event: Event) -> list[Leg]:
        self._note(event)
        a, b = event.get("Bridge-A-Unique-ID"), event.get("Bridge-B-Unique-ID")
        if not a or not b:
            return []
        one, other = (self._legs.setdefault(uuid, Leg(uuid, touched=event.timestamp)) for uuid in (a, b))
        one.bridged.setdefault(b, event.timestamp)
        other.bridged.setdefault(a, event.timestamp)
        return [*self._talks(one), *self._talks(other)]

    def _talks(self, answered: Leg) -> list[Leg]:
        """Everybody who talks now that this leg is answered and bridged."""
        if answered.answered_at is None:
            return []
        talking = []
        for uuid, since in answered.bridged.items():
            other = self._legs.get(uuid)
            if other is not None:
                other.talked_at = max(other.talked_at or 0.0, since, answered.answered_at)
                other.agent = other.agent or answered.agent
                talking.append(other)
        return talking

    def _joined(self, event: Event) -> list[Leg]:
        leg = self._note(event)
        queue, member = event.get("CC-Queue") or "", event.get("CC-Member-UUID") or ""
        joined = whole(event.get("variable_cc_queue_joined_epoch")) or int(event.timestamp)
        leg.phone = leg.phone if leg.inbound else event.get("CC-Member-CID-Number") or leg.phone
        if not any(s.queue == queue and s.member_uuid == member and s.joined == joined for s in leg.stays):
            leg.stays.append(Stay(queue, member, joined, event.timestamp))
        return []

    def _left(self, event: Event) -> list[Leg]:
        leg = self._note(event)
        queue, member = event.get("CC-Queue") or "", event.get("CC-Member-UUID") or ""
        joined = whole(event.get("CC-Member-Joined-Time"))
        mine = [s for s in leg.stays if s.queue == queue and s.member_uuid == member]
        stay = next((s for s in mine if s.joined == joined), mine[-1] if mine else None)
        if stay is None:
            stay = Stay(queue, member, joined, float(joined))
            leg.stays.append(stay)
        stay.left = whole(event.get("CC-Member-Leaving-Time")) or int(event.timestamp)
        stay.cancel_reason = event.get("CC-Cancel-Reason") or ""
        return [leg]

    def _offered(self, event: Event) -> list[Leg]:
        leg = self._legs.get(event.get("CC-Member-Session-UUID") or "")
        if leg is None:
            return []
        leg.offered_to = event.get("CC-Agent")
        return [leg]

    def _agent_talks(self, event: Event) -> list[Leg]:
        leg = self._legs.get(event.get("CC-Member-Session-UUID") or "")
        if leg is None:
            return []
        leg.agent = event.get("CC-Agent")
        return []

    def _hook(self, event: Event) -> list[Leg]:
        if not event.get("Unique-ID"):
            return []  # not from a dialplan: there is no call in it
        leg = self._note(event)
        leg.hook = event.subclass or ""
        leg.hooked_at = event.timestamp
        leg.offered_to = event.get("Callback-Operator") or leg.offered_to
        leg.hook_queue = event.get("Callback-Queue") or leg.hook_queue
        self._read_variables(leg, event)
        return [leg]

    def _hung_up(self, event: Event) -> list[Leg]:
        leg = self._note(event)
        leg.ended = leg.ended or event.timestamp
        leg.hangup_cause = event.get("Hangup-Cause") or leg.hangup_cause
        self._read_variables(leg, event)
        self._read_stay(leg, event)
        return [leg]

    def _complete(self, event: Event) -> list[Leg]:
        leg = self._note(event)
        leg.ended = float(whole(event.get("variable_end_epoch"))) or leg.ended or event.timestamp
        leg.hangup_cause = event.get("Hangup-Cause") or leg.hangup_cause
        leg.ended_for_good = True
        self._read_variables(leg, event)
        self._read_stay(leg, event)
        self._gone.append((event.timestamp, leg.uuid))
        return [leg]

    def _read_variables(self, leg: Leg, event: Event) -> None:
        leg.context = event.get("Caller-Context") or leg.context
        leg.destination = event.get("Caller-Destination-Number") or leg.destination
        leg.bridge_cause = (
            event.get("variable_last_bridge_hangup_cause")
            or event.get("variable_originate_disposition")
            or leg.bridge_cause
        )
        for name in self.rules.variables:
            value = event.get(f"variable_{name}")
            if value is not None:
                leg.extra[name] = value

    def _read_stay(self, leg: Leg, event: Event) -> None:
        """What the leg's own variables tell, where the events that should have told were not heard."""

        def variable(name: str) -> str | None:
            return event.get(f"variable_{name}")

        read_last_stay(leg, variable)
        partner = self._legs.get(variable("last_bridge_to") or variable("bridge_uuid") or "")
        if partner is None or not partner.from_the_start:
            bridged = whole(event.get("Caller-Channel-Bridged-Time")) / 1e6
            answered = whole(event.get("Caller-Channel-Answered-Time"))
            read_talk(leg, variable, bridged if answered else 0.0)

    def _forget(self, now: float) -> None:
        while self._gone and self._gone[0][0] < now - _REMEMBER:
            self._legs.pop(self._gone.popleft()[1], None)

    # --- telling ---------------------------------------------------------------------------------------

    def _tell(self, leg: Leg) -> Missed | Served | None:
        if leg.ended is None and not leg.hook and leg.talked_at is None:
            return None
        fact = verdict(self.node, leg, self.rules)
        if fact is None or fact == leg.told:
            return None
        leg.told = fact
        return fact


_CHANNEL: dict[str, Callable[[Capture, Event], list[Leg]]] = {
    "CHANNEL_CREATE": Capture._created,
    "CHANNEL_ANSWER": Capture._answered,
    "CHANNEL_BRIDGE": Capture._bridged,
    "CHANNEL_HANGUP": Capture._hung_up,
    "CHANNEL_HANGUP_COMPLETE": Capture._complete,
}
_CALLCENTER: dict[str, Callable[[Capture, Event], list[Leg]]] = {
    "member-queue-start": Capture._joined,
    "member-queue-resume": Capture._joined,
    "member-queue-end": Capture._left,
    "agent-offering": Capture._offered,
    "bridge-agent-start": Capture._agent_talks,
}


def whole(text: str | None) -> int:
    """A whole number as FreeSWITCH writes it; 0 where there is none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0


def read_last_stay(leg: Leg, variable: Callable[[str], str | None]) -> None:
    """Note the leg's last stay from its `cc_*` variables, where no event has told of it or of its end.

    Until the leg is complete they may still speak of the stay before: CHANNEL_HANGUP comes before
    `member-queue-end`, and then `cc_queue_joined_epoch` is not older than `cc_queue_canceled_epoch`.
    """
    if variable("cc_side") != "member" or not whole(variable("cc_queue_joined_epoch")):
        return
    joined = whole(variable("cc_queue_joined_epoch"))
    queue, member = variable("cc_queue") or "", variable("cc_member_uuid") or ""
    if not leg.stays or leg.stays[-1].joined < joined:
        leg.stays.append(Stay(queue, member, joined, float(joined)))
    last = leg.stays[-1]
    left = whole(variable("cc_queue_canceled_epoch"))
    if last.left is None and (left > last.joined or (left == last.joined and leg.ended_for_good)):
        last.left = left
        last.cancel_reason = variable("cc_cancel_reason") or ""


def read_talk(leg: Leg, variable: Callable[[str], str | None], bridged: float) -> None:
    """Note a conversation that only the leg's variables tell of. `bridged`: seconds, 0 for never.

    Whole seconds here: a stay that began in the second in which the agent answered is the one that was
    answered.
    """
    answered = float(whole(variable("cc_queue_answered_epoch")))
    if answered:
        answered += 0.999999
    elif bridged and leg.bridge_cause not in _NOT_A_TALK:
        answered = bridged
    if answered:
        leg.talked_at = max(leg.talked_at or 0.0, answered)
        leg.agent = leg.agent or variable("cc_agent")


def verdict(node: str, leg: Leg, rules: CaptureRules) -> Missed | Served | None:
    """What this leg is as far as it is known: missed, served, or no call of ours (None)."""
    if leg.own or leg.hangup_cause in _LEG_MOVED_ON:
        return None
    talked = leg.talked_at or 0.0
    waits = [stay for stay in leg.stays if stay.joined_at > talked]
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
        return Served(node, leg.uuid, leg.phone, queue, leg.agent or leg.offered_to, _utc(talked))
    return None


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
    if leg.hook == "callback::request":
        reason = Reason.REQUESTED
    return Missed(
        node=node,
        call_uuid=leg.uuid,
        phone=leg.phone,
        calldate=_utc(leg.created),
        timewait=timewait,
        reason=reason,
        calledid=leg.calledid,
        operator=operator or None,
        member_uuid=member or None,
        queue=queue or None,
        caller_name=leg.caller_name,
        hangup_cause=leg.hangup_cause,
        extra=dict(leg.extra),
        settled=leg.ended_for_good,
    )


def _direct_reason(leg: Leg) -> Reason:
    if leg.hangup_cause == "ORIGINATOR_CANCEL":
        return Reason.CANCELLED
    if leg.bridge_cause and leg.bridge_cause not in ("failure", "SUCCESS"):
        return _DIRECT.get(leg.bridge_cause, Reason.FAILED)
    return _DIRECT.get(leg.hangup_cause, Reason.FAILED)


def _first(get: Callable[[str], str | None], headers: tuple[str, ...]) -> str:
    return next((value for value in map(get, headers) if value), "")


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
