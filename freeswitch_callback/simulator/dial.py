"""Dialling: from a dial string to legs, and who wins when several ring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from freeswitch_callback.simulator.channel import CallerProfile, Channel
from freeswitch_callback.simulator.clock import Timer
from freeswitch_callback.simulator.originate import Destination, DialString
from freeswitch_callback.simulator.phones import Phone, Phones
from freeswitch_callback.simulator.stories import Unregistered
from freeswitch_callback.simulator.switch import Switch

NOBODY_THERE = "5099"  # nothing listens on this port (`originate_no_gateway`)
WORLD_PORT, INSIDE_PORT = "5090", "5060"
RING_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Why a leg is dialled: by a `command` (its exact text, its job), by a queue, by the dialplan, or because
    somebody in the world outside calls in (`world`)."""

    kind: str
    command: str = ""
    job: str = ""
    far_uuid: str = ""  # the uuid of the leg at the other end, where it has to be known beforehand


@dataclass(frozen=True, slots=True)
class Dialled:
    """An outside number that really was dialled."""

    at: float
    number: str
    call_uuid: str
    command_text: str
    job_uuid: str
    variables: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a leg goes: to a `phone`, into our own dialplan (`phone` None), or nowhere."""

    user: str
    profile: str
    host: str
    port: str
    phone: Phone | None = None
    gateway: str = ""


class Dialler:
    """Creates outbound legs and their far ends."""

    def __init__(self, switch: Switch, phones: Phones, note: Callable[[str], None]) -> None:
        self.switch = switch
        self.phones = phones
        self.note = note
        self.world_legs = True
        self.gateways: set[str] = {"main"}
        self.profiles: set[str] = {"internal", "external", "pstn"}
        self.contacts: dict[str, str] = {}  # user/… of a registered phone
        self.dialled: list[Dialled] = []
        self.live: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        self.enter_dialplan: Callable[[Channel], None] = lambda _leg: None

    def resolve(self, endpoint: str) -> _Address | str:
        """Where a destination leads; or the cause with which FreeSWITCH refuses it, without making a
        channel."""
        kind, _, rest = endpoint.partition("/")
        if kind == "user":
            user = rest.partition("@")[0]
            if not self.phones.of_the_house(user):
                return "SUBSCRIBER_ABSENT"
            return self._registered(_Address(user, "internal", "127.0.0.1", WORLD_PORT, self.phones.at(user)))
        if kind == "loopback":
            self.note(f"dialled {endpoint}")
            user = rest.partition("/")[0]
            return _Address(user, "internal", "127.0.0.1", WORLD_PORT, self.phones.at(user))
        if kind == "error":
            return rest.upper()
        if kind != "sofia":
            return "CHAN_NOT_IMPLEMENTED"
        profile, _, target = rest.partition("/")
        if profile == "gateway":
            gateway, _, user = target.partition("/")
            if gateway not in self.gateways:
                return "INVALID_GATEWAY"
            phone = self.phones.at(user)
            return self._registered(_Address(user, "external", "127.0.0.1", WORLD_PORT, phone, gateway))
        if profile not in self.profiles:
            return "INVALID_PROFILE"
        user, _, place = target.partition("@")
        host, _, port = place.partition(":")
        inside = profile == "pstn" and port in ("", INSIDE_PORT)
        address = _Address(user, profile, host or "127.0.0.1", port, None if inside else self.phones.at(user))
        return self._registered(address)

    def _registered(self, address: _Address) -> _Address | str:
        if address.phone is not None:
            behaviour = address.phone.behaviour()
            if isinstance(behaviour, Unregistered):
                return behaviour.cause
        return address

    def dial(
        self,
        string: DialString,
        *,
        origin: Origin,
        on_success: Callable[[Channel], None],
        on_failure: Callable[[str], None],
        caller: Channel | None = None,
        caller_id: tuple[str, str] = ("", ""),
        timeout: float | None = None,
        world_legs: bool | None = None,
    ) -> Dial:
        """Dial a string; exactly one of the two callbacks comes, later."""
        dial = Dial(self, string, origin, caller, caller_id, on_success, on_failure)
        dial.world_legs = self.world_legs if world_legs is None else world_legs
        dial.start(timeout)
        return dial

    def count(self, leg: Channel, origin: Origin) -> None:
        number = leg.party[1]
        self.dialled.append(
            Dialled(self.switch.now(), number, leg.uuid, origin.command, origin.job, dict(leg.variables))
        )
        self.live[number] = self.live.get(number, 0) + 1
        self.peak[number] = max(self.peak.get(number, 0), self.live[number])


@dataclass(eq=False)
class Dial:
    """One dialling under way: the legs that ring now, and the groups still to be tried."""

    dialler: Dialler
    string: DialString
    origin: Origin
    caller: Channel | None
    caller_id: tuple[str, str]
    on_success: Callable[[Channel], None]
    on_failure: Callable[[str], None]
    world_legs: bool = True
    done: bool = False
    confirmed: bool = False
    cause: str = "NONE"
    legs: list[Channel] = field(default_factory=list)  # ringing now
    created: list[Channel] = field(default_factory=list)
    _groups: list[tuple[Destination, ...]] = field(default_factory=list)
    _timer: Timer | None = None

    def start(self, timeout: float | None) -> None:
        self._groups = list(self.string.groups)
        given = self.string.variables.get("originate_timeout", "")
        seconds = float(given) if given.isdigit() else timeout if timeout is not None else RING_TIMEOUT
        self._timer = self.dialler.switch.after(seconds, lambda: self.give_up("NO_ANSWER"))
        self._next_group()

    def give_up(self, cause: str) -> None:
        """Stop ringing everybody: the time is over, or the caller has gone."""
        if not self.done:
            self._groups.clear()
            self.cause = cause
            if not self.legs:
                self._fail()
            for leg in list(self.legs):
                self.dialler.switch.hang_up(leg, cause)

    def _next_group(self) -> None:
        while self._groups and not self.legs:
            for destination in self._groups.pop(0):
                refused = self._dial_one(destination)
                if refused:
                    self.cause = refused
        if not self.legs:
            self.dialler.switch.after(0, self._fail)

    def _fail(self) -> None:
        if not self.done:
            self._close()
            self.on_failure(self.cause)

    def _close(self) -> None:
        self.done = True
        if self._timer is not None:
            self._timer.cancel()

    def _dial_one(self, destination: Destination) -> str:
        """Make one leg; what comes back is the cause when there is none."""
        address = self.dialler.resolve(destination.endpoint)
        if isinstance(address, str):
            return address
        switch = self.dialler.switch
        variables = destination.variables | self.string.variables
        uuid = variables.get("origination_uuid") or switch.new_uuid()
        if uuid in switch.channels:
            return "DESTINATION_OUT_OF_ORDER"  # "Duplicate UUID"
        leg = self._leg(uuid, address, variables)
        self.legs.append(leg)
        self.created.append(leg)
        leg.on_answer = lambda: self._won(leg)
        leg.on_complete = lambda: self._lost(leg)
        leg.on_ringing = self._caller_hears_it_ring
        if (
            variables.get("ignore_early_media", "false") != "true"
            and leg.variables["originate_early_media"] == "true"
        ):
            leg.on_early = lambda: self._won(leg)
        switch.create(leg)
        self._count(leg)
        limit = variables.get("leg_timeout", "")
        if limit.isdigit():
            switch.after(
                float(limit),
                lambda: None if leg.answered or self.done else switch.hang_up(leg, "ALLOTTED_TIMEOUT"),
            )
        switch.over_the_wire(lambda: self._invite(leg, address))
        return ""

    def _caller_hears_it_ring(self) -> None:
        caller = self.caller
        if (
            caller is not None
            and caller.direction == "inbound"
            and not caller.answered
            and not caller.progress
        ):
            self.dialler.switch.ring(caller)

    def _count(self, leg: Channel) -> None:
        if leg.party[0] == "number" and self.origin.kind == "command":
            dialler, number = self.dialler, leg.party[1]
            dialler.count(leg, self.origin)
            lost = leg.on_complete

            def ended() -> None:
                dialler.live[number] -= 1
                lost()

            leg.on_complete = ended

    def _won(self, leg: Channel) -> None:
        if self.done:
            return
        key = self.caller.variables.get("group_confirm_key") if self.caller is not None else None
        if key and not self.confirmed:
            leg.on_answer = leg.on_early = lambda: None
            leg.on_key = partial(self._confirm, leg, key)
            return
        self._close()
        leg.on_answer = leg.on_early = lambda: None
        for other in [other for other in self.legs if other is not leg]:
            self.dialler.switch.hang_up(other, "LOSE_RACE")
        self.on_success(leg)

    def _confirm(self, leg: Channel, key: str, pressed: str) -> None:
        """Somebody is there, and no answering machine."""
        if pressed == key:
            self.confirmed = True
            leg.on_key = lambda _key: None
            self._won(leg)

    def _lost(self, leg: Channel) -> None:
        if leg in self.legs:
            self.legs.remove(leg)
        if not self.done:
            if self.cause == "NONE" or self._groups or leg.cause not in ("LOSE_RACE",):
                self.cause = leg.cause
            if not self.legs:
                self._next_group()

    def _leg(self, uuid: str, address: _Address, variables: dict[str, str]) -> Channel:
        caller = self.caller
        who = caller.profile if caller is not None else None
        name = (
            variables.get("origination_caller_id_name") or self.caller_id[0] or (who.cid_name if who else "")
        )
        number = (
            variables.get("origination_caller_id_number")
            or self.caller_id[1]
            or (who.cid_number if who else "0000000000")
        )
        place = f"{address.host}:{address.port}" if address.port else address.host
        channel = (
            f"sofia/external/{address.user}"
            if address.gateway
            else f"sofia/{address.profile}/{address.user}@{place}"
        )
        profile = CallerProfile(
            cid_name=name,
            cid_number=number,
            destination=address.user,
            context=who.context if who else "default",
            source=who.source if who else "src/switch_ivr_originate.c",
            username=who.username if who else "",
            dialplan=who.dialplan if who else "",
            orig_name=who.orig_name if who else name,
            orig_number=who.orig_number if who else number,
            callee_name="Outbound Call",
            callee_number=address.user,
            ani=who.ani if who else number,
            network_addr="127.0.0.1" if who else "",
        )
        leg = Channel(
            uuid,
            "outbound",
            channel,
            profile,
            self.dialler.switch.now(),
            silent=address.profile == "pstn" and not self.world_legs,
            party=address.phone.party if address.phone is not None else ("inside", address.user),
            call_uuid=caller.uuid if caller is not None else uuid,
        )
        self._set_variables(leg, address, variables)
        return leg

    def _set_variables(self, leg: Channel, address: _Address, variables: dict[str, str]) -> None:
        caller = self.caller
        given = leg.variables
        given.set(direction="outbound", is_outbound="true", uuid=leg.uuid, call_uuid=leg.call_uuid)
        given.set(
            session_id=self.dialler.switch.sessions + 1,
            sip_profile_name=address.profile,
            channel_name=leg.name,
        )
        if caller is not None:
            leg.other = ("originator", caller)
            given.set(originator=caller.uuid, signal_bond=caller.uuid, originating_leg_uuid=caller.uuid)
            if "ignore_early_media" in caller.variables:
                given["ignore_early_media"] = caller.variables["ignore_early_media"]
            # Headers meant for the first phone reach the second one too (`reserved_recall_agent_first`).
            if caller.variables.get("sip_copy_custom_headers") != "false":
                for name, value in caller.variables.items():
                    if name.startswith("sip_h_"):
                        given[name] = value
        if address.gateway:
            given["sip_gateway_name"] = address.gateway
        for name, value in variables.items():
            given[name] = value
        given.set(
            sip_destination_url=f"sip:{address.user}@{address.host}:{address.port or INSIDE_PORT}",
            originate_early_media=str(given.get("ignore_early_media") != "true").lower(),
            originate_endpoint="sofia",
            sip_req_uri=f"{address.user}@{address.host}:{address.port or INSIDE_PORT}",
            sofia_profile_name=address.profile,
        )

    def _invite(self, near: Channel, address: _Address) -> None:
        """The INVITE arrives: the far end gets a leg of its own."""
        if not near.up:
            return
        switch = self.dialler.switch
        near.state, near.number = "CS_CONSUME_MEDIA", 7
        if address.port == NOBODY_THERE:
            switch.refused(near, "NORMAL_TEMPORARY_FAILURE")
            return
        inside = address.phone is None
        profile, context = ("internal", "default") if inside else ("pstn", "pstn")
        who = near.profile
        shown = who.cid_name or who.cid_number
        far = Channel(
            self.origin.far_uuid or switch.new_uuid(),
            "inbound",
            f"sofia/{profile}/{who.cid_number}@127.0.0.1",
            CallerProfile(
                cid_name=shown,
                cid_number=who.cid_number,
                destination=address.user,
                context=context,
                username=who.cid_number,
                dialplan="XML",
                orig_name=shown,
                orig_number=who.cid_number,
                ani=who.cid_number,
                network_addr="127.0.0.1",
            ),
            switch.now(),
            silent=not inside and not self.world_legs,
            party=self.dialler.phones.caller(who.cid_number)
            if inside
            else address.phone.party
            if address.phone
            else ("", ""),
        )
        far.variables.set(
            direction="inbound",
            uuid=far.uuid,
            call_uuid=far.uuid,
            session_id=switch.sessions + 1,
            sip_from_user=who.cid_number,
            channel_name=far.name,
            sip_from_user_stripped=who.cid_number.lstrip("+"),
            sofia_profile_name=profile,
            sip_req_user=address.user,
            sip_to_user=address.user,
        )
        for name, value in near.variables.items():
            if name.startswith("sip_h_"):
                far.variables[name] = value
        far.variables["endpoint_disposition"] = "RECEIVED"
        near.wire, far.wire = far, near
        switch.create(far)
        if address.phone is not None:
            self.dialler.phones.ring(address.phone, far)
        else:
            self.dialler.enter_dialplan(far)
