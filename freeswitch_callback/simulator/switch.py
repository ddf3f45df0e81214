"""Channels and what happens between them: answering, bridging, hanging up, and the SIP dialogue between two
legs.

As in the laboratory of the recordings, a phone call over SIP has two legs in the same FreeSWITCH: the one
inside and the one of the world outside (profile `pstn`). What one does reaches the other a `tick` later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from uuid import UUID

from freeswitch_callback.simulator.channel import Q850, SIP_STATUS, TEMPORARILY_UNAVAILABLE, Bridge, Channel
from freeswitch_callback.simulator.clock import Clock, Timer
from freeswitch_callback.simulator.events import Bus


class Switch:
    """The core: every leg that is up, by uuid."""

    def __init__(self, clock: Clock, bus: Bus, random: Random, tick: float) -> None:
        self._clock = clock
        self._bus = bus
        self._random = random
        self._tick = tick
        self._boots = 0
        self.channels: dict[str, Channel] = {}
        self.sessions = 0
        self.core_uuid = ""
        self.run_hook: Callable[[str], None] = lambda _command: None
        self.talked: Callable[[Bridge, float], None] = lambda _bridge, _ended: None

    def boot(self) -> None:
        """A new life: no channels, a new Core-UUID; what was still to happen in the old one does not."""
        self._boots += 1
        self.channels.clear()
        self.sessions = 0
        self.core_uuid = self.new_uuid()
        self._bus.boot(self.core_uuid)

    def now(self) -> float:
        return self._clock.now()

    def new_uuid(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def after(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Do something later, unless FreeSWITCH has gone down meanwhile."""
        boot = self._boots
        return self._clock.after(seconds, lambda: action() if boot == self._boots else None)

    def over_the_wire(self, action: Callable[[], object]) -> None:
        self.after(self._tick, action)

    def fire(
        self, name: str, leg: Channel, *extra: str, subclass: str = "", tail: Iterable[str] = ()
    ) -> None:
        """An event about a leg; `extra` comes before its headers, `tail` after them."""
        if not leg.silent:
            source = "mod_callcenter.c" if subclass == "callcenter::info" else ""
            self._bus.fire(name, lambda: [*extra, *leg.lines(), *tail], subclass=subclass, source=source)

    def create(self, leg: Channel) -> None:
        self.sessions += 1
        if not leg.silent:
            self.channels[leg.uuid] = leg
        self.fire("CHANNEL_CREATE", leg)

    # What the called side of a dialogue does, and how the calling side hears of it.

    def ring(self, leg: Channel) -> None:
        """180 Ringing."""
        leg.progress = self.now()
        leg.state, leg.number, leg.call_state = "CS_EXECUTE", 4, "RINGING"
        self.over_the_wire(lambda: self._hear_ringing(leg.wire))

    def _hear_ringing(self, leg: Channel | None) -> None:
        if leg is not None and leg.up and not leg.answered:
            leg.progress = leg.progress or self.now()
            leg.state, leg.number, leg.call_state = "CS_CONSUME_MEDIA", 7, "RINGING"
            self._hear_reply(leg)
            leg.on_ringing()

    def _hear_reply(self, leg: Channel) -> None:
        who = leg.profile
        who.callee_name = who.destination
        who.network_addr = who.network_addr or "127.0.0.1"
        leg.variables.set(sip_from_user=who.cid_number, sip_to_user=who.destination)

    def early_media(self, leg: Channel) -> None:
        """183 Session Progress."""
        leg.progress = self.now()
        leg.state, leg.number, leg.call_state, leg.answer_state = "CS_EXECUTE", 4, "EARLY", "early"
        leg.variables["endpoint_disposition"] = "EARLY MEDIA"
        self.over_the_wire(lambda: self._hear_early_media(leg.wire))

    def _hear_early_media(self, leg: Channel | None) -> None:
        if leg is not None and leg.up and not leg.answered:
            leg.state, leg.number, leg.call_state, leg.answer_state = "CS_CONSUME_MEDIA", 7, "EARLY", "early"
            leg.variables["endpoint_disposition"] = "EARLY MEDIA"
            self._hear_reply(leg)
            leg.on_early()

    def answer(self, leg: Channel) -> None:
        if leg.up and not leg.answered:
            self._mark_answered(leg, "CS_EXECUTE", 4)
            if leg.wire is not None:
                self.over_the_wire(lambda: self._hear_answer(leg.wire))

    def _hear_answer(self, leg: Channel | None) -> None:
        if leg is not None and leg.up and not leg.answered:
            self._hear_reply(leg)
            self._mark_answered(leg, "CS_CONSUME_MEDIA", 7)

    def _mark_answered(self, leg: Channel, state: str, number: int) -> None:
        leg.answered = self.now()
        if leg.bridge is None:
            leg.state, leg.number = state, number
        leg.answer_state = "answered"
        self.fire("CHANNEL_ANSWER", leg)
        leg.call_state = "ACTIVE"
        leg.variables["endpoint_disposition"] = "ANSWER"
        self._run_hooks(leg, "api_on_answer")
        leg.on_answer()
        if leg.bridge is not None:
            self._talk(leg.bridge)

    def _run_hooks(self, leg: Channel, prefix: str) -> None:
        for name, command in list(leg.variables.items()):
            if name.startswith(prefix):
                # At the end of a call `${…}` in it is expanded (1.10.12).
                told = {
                    "hangup_cause": leg.cause,
                    "bridge_epoch": int(leg.bridged),
                    "end_epoch": int(leg.ended),
                }
                for variable, value in told.items():
                    command = command.replace("${" + variable + "}", str(value))
                self.run_hook(command)

    # Bridges

    def bridge(
        self,
        a: Channel,
        b: Channel,
        *,
        state: tuple[str, int] = ("CS_EXECUTE", 4),
        afterwards: Callable[[], object] | None = None,
    ) -> Bridge:
        """Put two legs together. When `b` leaves, `a` does `afterwards` (hangs up, unless told otherwise)."""
        bridge = Bridge(a, b, afterwards or (lambda: self.hang_up(a)))
        a.bridge = b.bridge = bridge
        a.bridged = b.bridged = self.now()
        callee = b.profile
        if b.direction == "outbound":
            a.profile.callee_name = a.profile.callee_number = callee.destination
        else:
            a.profile.callee_name, a.profile.callee_number = callee.orig_name, callee.orig_number
        a.other, b.other = ("originatee", b), ("originator", a)
        a.state, a.number = state
        b.state, b.number = "CS_EXCHANGE_MEDIA", 8
        if a.answer_state == "ringing" and b.answer_state == "early":
            a.answer_state, a.call_state = "early", "EARLY"
            a.variables["endpoint_disposition"] = "EARLY MEDIA"
        a.on_hangup = lambda: self._leave(bridge, a)
        b.on_hangup = lambda: self._leave(bridge, b)
        a.variables["signal_bond"] = b.uuid
        if (
            state[0] == "CS_SOFT_EXECUTE"
        ):  # both were up before (`uuid_bridge`): these are set before the event
            a.variables.set(bridge_channel=b.name, bridge_uuid=b.uuid)
        self.fire("CHANNEL_BRIDGE", a, f"Bridge-A-Unique-ID: {a.uuid}\nBridge-B-Unique-ID: {b.uuid}")
        b.call_uuid = a.uuid
        b.variables.set(call_uuid=a.uuid, signal_bond=a.uuid)
        for leg, other in ((a, b), (b, a)):
            leg.variables.set(last_bridge_to=other.uuid, bridge_channel=other.name, bridge_uuid=other.uuid)
        self._talk(bridge)
        return bridge

    def _talk(self, bridge: Bridge) -> None:
        """Both have answered: from here on they really talk."""
        a, b = bridge.a, bridge.b
        if not bridge.talked_from and a.answered and b.answered:
            bridge.talked_from = self.now()
            if a.wire is not None:
                a.wire.profile.cid_name, a.wire.profile.cid_number = (
                    a.profile.callee_name,
                    a.profile.callee_number,
                )
            if b.wire is not None and b.direction == "inbound":
                b.wire.profile.cid_name, b.wire.profile.cid_number = b.profile.cid_name, b.profile.cid_number
            for leg in (a, a.wire, b, b.wire):
                if leg is not None:
                    leg.on_connected()

    def _leave(self, bridge: Bridge, first: Channel) -> None:
        """`first` has hung up: tell the other one, and let the bridge end."""
        if bridge.over:
            return
        bridge.over = True
        if bridge.talked_from:
            self.talked(bridge, self.now())
        other = bridge.other(first)
        status, phrase = (
            (200, "OK") if first.answered else SIP_STATUS.get(first.cause, TEMPORARILY_UNAVAILABLE)
        )
        if not first.answered:
            other.variables.set(sip_invite_failure_status=status, sip_invite_failure_phrase=phrase)
        other.variables.set(
            sip_hangup_phrase=phrase,
            last_bridge_hangup_cause=first.cause,
            last_bridge_proto_specific_hangup_cause=f"sip:{status}",
        )
        first.variables.drop("bridge_to")
        bridge.a.variables["bridge_hangup_cause"] = first.cause
        bridge.a.bridge = bridge.b.bridge = None
        ids = f"Bridge-A-Unique-ID: {bridge.a.uuid}\nBridge-B-Unique-ID: {bridge.b.uuid}"
        if first is bridge.a:
            self.hang_up(other, first.cause)
            self.fire("CHANNEL_UNBRIDGE", bridge.a, ids)
        else:
            self.fire("CHANNEL_UNBRIDGE", bridge.a, ids)
            bridge.afterwards()

    def take_away(self, leg: Channel) -> None:
        """Take a leg out of the application or the bridge that it is in (`intercept`, `uuid_bridge`)."""
        bridge, on_break = leg.bridge, leg.on_break
        leg.on_break = leg.on_hangup = lambda: None
        if bridge is not None and not bridge.over:
            bridge.over = True
            if bridge.talked_from:
                self.talked(bridge, self.now())
            other = bridge.other(leg)
            leg.bridge = other.bridge = None
            self.fire(
                "CHANNEL_UNBRIDGE",
                bridge.a,
                f"Bridge-A-Unique-ID: {bridge.a.uuid}\nBridge-B-Unique-ID: {bridge.b.uuid}",
            )
            self.hang_up(other)
        on_break()

    # The end

    def hang_up(self, leg: Channel, cause: str = "NORMAL_CLEARING") -> None:
        """End a leg by our own decision: the other end of its dialogue hears of it."""
        if leg.up:
            disposition = (
                "send_bye"
                if leg.answered
                else "send_cancel"
                if leg.direction == "outbound"
                else "send_refuse"
            )
            self._end(leg, cause, disposition)
            if leg.wire is not None:
                self.over_the_wire(lambda: self._hear_the_end(leg.wire, cause, disposition))

    def refused(self, leg: Channel, cause: str) -> None:
        """The other end refused the call without ever having had a leg."""
        self._hear_the_end(leg, cause, "send_refuse")

    def _hear_the_end(self, leg: Channel | None, cause: str, disposition: str) -> None:
        if leg is None or not leg.up:
            return
        if disposition == "send_bye":
            q850 = Q850.get(cause, 16)
            leg.variables.set(
                sip_reason=f'Q.850;cause={q850};text="{cause}"',
                sip_term_status=200,
                proto_specific_hangup_cause="sip:200",
                sip_term_cause=q850,
            )
            self._end(leg, cause, "recv_bye")
            return
        if disposition == "send_cancel":
            cause = "ORIGINATOR_CANCEL"
            leg.variables["sip_reason"] = 'SIP;cause=487;text="ORIGINATOR_CANCEL"'
        status, phrase = SIP_STATUS.get(cause, TEMPORARILY_UNAVAILABLE)
        leg.variables.set(
            sip_hangup_disposition="recv_cancel" if disposition == "send_cancel" else "recv_refuse",
            sip_invite_failure_status=status,
            sip_invite_failure_phrase=phrase,
            sip_term_status=status,
            proto_specific_hangup_cause=f"sip:{status}",
            sip_term_cause=487 if disposition == "send_cancel" else Q850.get(cause, 16),
        )
        self._end(leg, cause, "")

    def _end(self, leg: Channel, cause: str, disposition: str) -> None:
        leg.cause = cause
        leg.disposition = disposition
        leg.number, leg.answer_state = 10, "hangup"
        if leg.bridge is not None and leg.bridge.other(leg).up:
            role = "originator" if leg is leg.bridge.a else "originatee"
            leg.variables.set(bridge_to=leg.bridge.other(leg).uuid, last_bridge_role=role)
        self.fire("CHANNEL_HANGUP", leg)
        self.after(0, lambda: self._finish(leg))

    def _finish(self, leg: Channel) -> None:
        if leg.disposition == "recv_bye":
            leg.variables["sip_hangup_disposition"] = leg.disposition
        leg.on_hangup()
        if leg.disposition:
            leg.variables["sip_hangup_disposition"] = leg.disposition
        if leg.disposition == "send_cancel":
            leg.variables.set(sip_invite_failure_status=487, sip_invite_failure_phrase="CANCEL")
        leg.ended = self.now()
        self._run_hooks(leg, "api_hangup_hook")
        leg.state, leg.number, leg.call_state = "CS_REPORTING", 11, "HANGUP"
        leg.account(leg.ended)
        self.channels.pop(leg.uuid, None)
        self.fire("CHANNEL_HANGUP_COMPLETE", leg)
        leg.number = 12
        leg.on_complete()
