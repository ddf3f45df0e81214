"""From FreeSWITCH's events to facts: who called and was not served, and who was reached from here.

A caller's leg lives from CHANNEL_CREATE to CHANNEL_HANGUP_COMPLETE and may sit in several queues on its way
(a *stay* each). What decides is the end of the leg, never the end of a stay: a member who timed out of one
queue may be answered in the next.

- **Missed** is a leg that ends with a stay which no conversation followed, a direct call that nobody took,
  or a call that the dialplan named (`callback::missed`, `callback::request`).
- **Served** means that the leg was bridged with another leg *that was answered*: with early media there is a
  bridge although nobody answers (recording `direct_early_media`), and whoever is picked out of a queue is
  bridged under the other leg's name (`intercepted_from_the_queue`).
- **Reached** is an outbound leg that was answered and bridged, when it is over, unless a queue or a recall of
  ours made it. Who was called is the number that was dialled; whether that is a client's is not asked here.

Order is kept between the events of one leg, not between legs. So everything is a note on a leg, compared by
the events' own time, and the verdict is taken anew whenever a note changes it: at CHANNEL_HANGUP for the
first time, so that the call is on disk then, and for good at CHANNEL_HANGUP_COMPLETE.

A leg that was up before anybody listened is judged by its own variables; what a CDR tells is judged the same
way (`cdr`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator

from freeswitch_callback.core.catchup import Heard
from freeswitch_callback.core.facts import Event, Missed, Reached, Served
from freeswitch_callback.core.legs import (
    CUT_OFF,
    OWN_CALL,
    CaptureRules,
    Direct,
    Leg,
    Stay,
    reached,
    read_hook,
    read_last_stay,
    read_talk,
    verdict,
    whole,
)

__all__ = ["EVENTS", "SUBCLASSES", "Capture", "CaptureRules", "Direct"]

EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
)
SUBCLASSES = ("callcenter::info", "callback::missed", "callback::request")

_OWN = f"variable_{OWN_CALL}"
_REMEMBER = 300.0  # seconds of event time that an ended leg stays known, for what comes late or twice


class Capture:
    """The facts of one node's events. Feed it everything; it keeps a note for each live channel."""

    def __init__(self, node: str, rules: CaptureRules) -> None:
        self.node = node
        self.rules = rules
        self._legs: dict[str, Leg] = {}
        self._gone: deque[tuple[float, str]] = deque()

    def feed(self, event: Event) -> list[Missed | Served | Reached]:
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

    def heard(self) -> Iterator[Heard]:
        """The newest of each leg that is noted."""
        return (Heard(leg.phone, leg.touched, leg.talked_at) for leg in self._legs.values() if leg.phone)

    def was_not_missed(self, uuid: str) -> bool:
        """Whether events told this call to its end, and it is no missed one."""
        leg = self._legs.get(uuid)
        return leg is not None and leg.ended_for_good and not isinstance(leg.told, Missed)

    def interrupted(self) -> None:
        """Events were lost: of an answer or a bridge, a leg's own last event may be the only one to tell."""
        for leg in self._legs.values():
            leg.from_the_start = False

    def keep(self, live: Container[str], before: float) -> None:
        """Forget the legs of which nothing was heard since `before`, unless FreeSWITCH says that they are up.

        Their end was told while nobody listened. `before`: epoch seconds, of FreeSWITCH's clock.
        """
        for uuid in [u for u, leg in self._legs.items() if leg.touched < before and u not in live]:
            del self._legs[uuid]

    def end_all(self, at: float) -> list[Missed | Served | Reached]:
        """FreeSWITCH is gone (`at`: epoch seconds), and every call without a word: who waited was missed."""
        facts = []
        for leg in self._legs.values():
            if leg.ended is None:
                leg.ended, leg.ended_for_good = at, True
                for stay in leg.stays:
                    if stay.left is None:
                        stay.left, stay.cancel_reason = int(at), CUT_OFF
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
            leg.caller_name = (
                event.get("Caller-Orig-Caller-ID-Name") or event.get("Caller-Caller-ID-Name") or ""
            )
            leg.calledid = _first(event.get, self.rules.called_number)
            leg.context = event.get("Caller-Context") or ""
            leg.destination = event.get("Caller-Destination-Number") or ""
            if leg.inbound:
                # Once somebody picks the call up, Caller-ID-Number is theirs; Orig- stays the caller's.
                leg.phone = (
                    event.get("Caller-Orig-Caller-ID-Number") or event.get("Caller-Caller-ID-Number") or ""
                )
            else:
                leg.phone = leg.destination
                leg.of_agent = event.get("variable_cc_side") == "agent"
                user = event.get("variable_dialed_user")  # of `user/1001@house`
                if leg.of_agent:
                    leg.who = event.get("variable_cc_agent") or ""
                elif user:
                    leg.domain = event.get("variable_dialed_domain") or ""
                    leg.who = f"{user}@{leg.domain}"
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
        _read_owner(self._note(event), event)
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
                if answered.of_agent:
                    other.agent = answered.who or other.agent
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
        if event.get("CC-Cause") == "Terminated":  # after a talk (recording `answered`)
            stay.served = True
            leg.talked_at = leg.talked_at or float(whole(event.get("CC-Agent-Answered-Time")) or joined)
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
        self._read_end(leg, event)
        return [leg]

    def _complete(self, event: Event) -> list[Leg]:
        leg = self._note(event)
        leg.ended = float(whole(event.get("variable_end_epoch"))) or leg.ended or event.timestamp
        leg.hangup_cause = event.get("Hangup-Cause") or leg.hangup_cause
        leg.ended_for_good = True
        self._read_end(leg, event)
        self._gone.append((event.timestamp, leg.uuid))
        return [leg]

    def _read_end(self, leg: Leg, event: Event) -> None:
        self._read_variables(leg, event)
        self._read_stay(leg, event)
        if not leg.inbound:
            _read_bridge(leg, event)

    def _read_variables(self, leg: Leg, event: Event) -> None:
        leg.context = event.get("Caller-Context") or leg.context
        leg.destination = event.get("Caller-Destination-Number") or leg.destination
        leg.bridge_cause = (
            event.get("variable_last_bridge_hangup_cause")
            or event.get("variable_originate_disposition")
            or leg.bridge_cause
        )
        read_hook(leg, lambda name: event.get(f"variable_{name}"))
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

    def _tell(self, leg: Leg) -> Missed | Served | Reached | None:
        if leg.ended is None and not leg.hook and leg.talked_at is None:
            return None
        fact: Missed | Served | Reached | None = verdict(self.node, leg, self.rules)
        if fact is None and leg.told is None:
            fact = reached(self.node, leg, [self._legs[uuid] for uuid in leg.bridged if uuid in self._legs])
        if fact is None or fact == leg.told:
            return None
        leg.told = fact
        return fact


def _read_owner(leg: Leg, event: Event) -> None:
    """Whose leg this is: read at the bridge, when the dialplan has set what it sets.

    `cc_tracked_agent` is what the application `callcenter_track` leaves there.
    """
    leg.domain = event.get("variable_domain_name") or leg.domain
    user = event.get("variable_user_name")
    leg.who = event.get("variable_cc_tracked_agent") or leg.who or (f"{user}@{leg.domain}" if user else "")


def _read_bridge(leg: Leg, event: Event) -> None:
    """What an outbound leg's own last event tells of its talk, where no other has (`direct_answered`)."""
    bridged = whole(event.get("Caller-Channel-Bridged-Time")) / 1e6
    other = event.get("variable_last_bridge_to")
    if not bridged or not other:
        return
    leg.answered_at = leg.answered_at or whole(event.get("Caller-Channel-Answered-Time")) / 1e6 or None
    leg.bridged.setdefault(other, bridged)
    leg.domain = event.get("variable_domain_name") or leg.domain
    # Whom this one called, if it was there first (`reserved_recall_client_first`), or who called it.
    first = event.get("Other-Type") == "originatee"
    leg.other_number = (
        event.get("Other-Leg-Destination-Number" if first else "Other-Leg-Caller-ID-Number") or ""
    )


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


def _first(get: Callable[[str], str | None], headers: tuple[str, ...]) -> str:
    return next((value for value in map(get, headers) if value), "")
