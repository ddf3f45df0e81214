"""What a leg does by itself: the applications of the dialplan, one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from freeswitch_callback.simulator import dialplan
from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.dial import Dial, Dialler, Origin
from freeswitch_callback.simulator.events import Bus, header
from freeswitch_callback.simulator.originate import Application, parse_dial_string

if TYPE_CHECKING:
    from freeswitch_callback.simulator.callcenter import Callcenter

# A failed bridge ends the caller's call with the same cause, except with these (mod_dptools: "no answer is
# always a reason to continue"); with `continue_on_fail` nothing ends it.
_GOES_ON = {"NO_ANSWER", "NO_USER_RESPONSE", "ORIGINATOR_CANCEL"}
DIAL_STATUS = {
    "USER_BUSY": "BUSY",
    "NO_ANSWER": "NOANSWER",
    "ORIGINATOR_CANCEL": "CANCEL",
    "SUCCESS": "SUCCESS",
}


class Applications:
    """Runs lists of applications on legs, and knows the dialplan's extensions."""

    def __init__(self, dialler: Dialler, bus: Bus, store: Callable[[str, str], object]) -> None:
        self.dialler = dialler
        self.switch = dialler.switch
        self.bus = bus
        self.store = store  # ("db" | "hash", "insert/…")
        self.callcenter: Callcenter | None = None
        self.extensions: dict[str, tuple[Application, ...]] = {}
        self.dialplan: list[dialplan.Extension] = []  # files that were installed; before `extensions`
        self.plans: dict[str, tuple[Application, ...]] = {}  # for one call alone, by its leg's uuid
        dialler.enter_dialplan = self.enter

    def enter(self, leg: Channel) -> None:
        """An inbound leg has reached context `default`."""
        plan = self.plans.pop(leg.uuid, None)
        steps = list(plan) if plan is not None else self.plan_of(leg, leg.profile.destination)
        Execution(self, leg, steps, Origin("dialplan")).next()

    def plan_of(self, leg: Channel, number: str) -> list[Application]:
        """What this leg does that comes to a number, or to an extension of the files."""
        planned = dialplan.hunt(self.dialplan, leg, number, self.dialler.note)
        return self.of_extension(number) if planned is None else planned

    def of_extension(self, number: str) -> list[Application]:
        """What the dialplan does with a number; an extension without a plan of its own is rung."""
        plan = self.extensions.get(number)
        if plan is not None:
            return list(plan)
        if not self.dialler.phones.of_the_house(number):
            return [("hangup", "UNALLOCATED_NUMBER")]
        return [
            ("set", "call_timeout=5"),
            ("set", "hangup_after_bridge=true"),
            ("bridge", f"sofia/internal/{number}@127.0.0.1:5090"),
        ]

    def send_to(self, leg: Channel, number: str) -> None:
        """Let a leg go on at an extension (`transfer`). One that was called is the caller from then on."""
        if leg.direction == "outbound" and not leg.hit_dialplan:
            leg.flip_caller_id()
        who = leg.profile
        who.rdnis, who.destination = who.destination, number
        moment, unique = int(self.switch.now()), self.switch.new_uuid()
        who.transfer_source = f"{moment}:{unique}:bl_xfer:{number}/{who.context}/XML"
        leg.variables["transfer_source"] = who.transfer_source
        Execution(self, leg, self.plan_of(leg, number), Origin("dialplan")).next()

    def run(
        self,
        leg: Channel,
        applications: tuple[Application, ...],
        extension: str,
        origin: Origin,
        dialplan: str = "",
    ) -> None:
        """What an originated leg does after it was answered."""
        leg.flip_caller_id()
        leg.profile.dialplan = dialplan
        steps = list(applications) if applications else self.of_extension(extension)
        Execution(self, leg, steps, origin).next()


class Execution:
    """A leg on its way through a list of applications."""

    def __init__(self, house: Applications, leg: Channel, steps: list[Application], origin: Origin) -> None:
        self.house = house
        self.leg = leg
        self.steps = steps
        self.origin = origin
        self.dial: Dial | None = None
        self.broken = False
        self.expands = False
        leg.on_break = self.break_off
        leg.on_hangup = self.break_off

    def break_off(self) -> None:
        """The leg has hung up, or was taken away: what it was dialling stops ringing."""
        self.broken = True
        if self.dial is not None and not self.dial.done:
            self._bridge_result("ORIGINATOR_CANCEL")
            self.dial.done = True
            for leg in list(self.dial.legs):
                self.house.switch.hang_up(leg, "ORIGINATOR_CANCEL")

    def next(self) -> None:
        """Run the next application; at the end of the list the leg hangs up."""
        leg = self.leg
        if self.broken or not leg.up:
            return
        if not self.steps:
            self.house.switch.hang_up(leg)
            return
        leg.state, leg.number = "CS_EXECUTE", 4
        name, data = self.steps.pop(0)
        self.expands = not isinstance(data, dialplan.Given) and (
            self.origin.kind == "dialplan" or isinstance(data, dialplan.Planned)
        )
        if self.expands:
            data = dialplan.expand(data, leg, self.house.dialler.note)
        if name != "set":
            leg.set_application(name, data)
        run = getattr(self, f"_app_{name}", None)
        if run is None:
            self.house.dialler.note(f"{name} {data}".strip())
            self.next()
        else:
            run(data)

    def _app_set(self, data: str) -> None:
        name, _, value = data.partition("=")
        if self.expands:  # what its line was expanded to is expanded once more (1.10.12)
            value = dialplan.expand(value, self.leg, self.house.dialler.note)
        self.leg.variables[name] = value
        self.next()

    _app_export = _app_set

    def _app_answer(self, _data: str) -> None:
        self.house.switch.answer(self.leg)
        self.next()

    def _app_pre_answer(self, _data: str) -> None:
        self.house.switch.early_media(self.leg)
        self.next()

    def _app_ring_ready(self, _data: str) -> None:
        self.house.switch.ring(self.leg)
        self.next()

    def _app_sleep(self, data: str) -> None:
        self.house.switch.after((float(data) if data.isdigit() else 0.0) / 1000, self.next)

    def _app_park(self, _data: str) -> None:
        """Stays until somebody takes the leg away or hangs it up."""

    _app_echo = _app_park

    def _app_playback(self, _data: str) -> None:
        self.house.switch.after(1.0, self.next)

    def _app_hangup(self, data: str) -> None:
        self.house.switch.hang_up(self.leg, data or "NORMAL_CLEARING")

    def _app_transfer(self, data: str) -> None:
        self.broken = True
        self.house.send_to(self.leg, data.split(" ")[0])

    def _app_execute_extension(self, data: str) -> None:
        """Another extension's applications, and then on with these."""
        wanted = data.split(" ")[0]
        planned = dialplan.hunt(self.house.dialplan, self.leg, wanted, self.house.dialler.note)
        self.steps[:0] = planned or []
        self.next()

    def _app_play_and_get_digits(self, data: str) -> None:
        Digits(self, data).ask()

    def _app_event(self, data: str) -> None:
        arguments = dict(part.partition("=")[::2] for part in data.split(","))
        name, subclass = arguments.pop("Event-Name", "CUSTOM"), arguments.pop("Event-Subclass", "")
        extra = [header(key, value) for key, value in arguments.items()]
        self.house.switch.fire(name, self.leg, *extra, subclass=subclass)
        self.next()

    def _app_db(self, data: str) -> None:
        self.house.store("db", data)
        self.next()

    def _app_hash(self, data: str) -> None:
        self.house.store("hash", data)
        self.next()

    def _app_callcenter_track(self, data: str) -> None:
        if self.house.callcenter is not None:
            self.house.callcenter.roster.track(data, self.leg)
        self.next()

    def _app_callcenter(self, data: str) -> None:
        leg = self.leg
        if not leg.answered:
            self.house.switch.answer(leg)
        if self.house.callcenter is None or not self.house.callcenter.join(leg, data, self._left_queue):
            self.next()

    def _left_queue(self) -> None:
        self.leg.on_hangup = self.leg.on_break = self.break_off
        self.next()

    def _app_intercept(self, data: str) -> None:
        switch = self.house.switch
        target = switch.channels.get(data)
        if target is None or not target.up:
            self.next()
            return
        me, they = self.leg.profile, target.profile
        they.callee_name, they.callee_number = they.orig_name, they.orig_number
        they.cid_name, they.cid_number = me.cid_name, me.cid_number
        target.other = ("originator", self.leg)
        target.number = 8
        target.variables.set(
            bridge_channel=self.leg.name, bridge_uuid=self.leg.uuid, signal_bond=self.leg.uuid
        )
        self.broken = True
        switch.take_away(target)
        switch.bridge(self.leg, target, state=("CS_SOFT_EXECUTE", 3))

    def _app_bridge(self, data: str) -> None:
        leg = self.leg
        leg.variables.set(originate_disposition="failure", DIALSTATUS="INVALIDARGS")
        limit = leg.variables.get("call_timeout", "")
        self.dial = self.house.dialler.dial(
            parse_dial_string(data, self.house.dialler.note),
            origin=self.origin,
            caller=leg,
            timeout=float(limit) if limit.isdigit() else None,
            on_success=self._bridged,
            on_failure=self._not_bridged,
        )

    def _bridge_result(self, cause: str) -> None:
        leg = self.leg
        legs = self.dial.created if self.dial is not None else []
        leg.variables.set(
            originate_disposition="SUCCESS" if cause == "NONE" else cause,
            DIALSTATUS=DIAL_STATUS.get("SUCCESS" if cause == "NONE" else cause, cause),
        )
        if legs:
            leg.variables.set(
                originated_legs=f"{legs[-1].uuid};Outbound Call;{legs[-1].profile.destination}",
                originate_causes=f"{legs[-1].uuid};{cause}",
            )
        if cause != "NONE":
            leg.variables.set(last_bridge_hangup_cause=cause, originate_failed_cause=cause)
            status = legs[-1].variables.get("sip_invite_failure_status") if legs else None
            if status is not None and cause != "ORIGINATOR_CANCEL":
                phrase = legs[-1].variables["sip_invite_failure_phrase"]
                leg.variables.set(
                    sip_invite_failure_status=status,
                    sip_invite_failure_phrase=phrase,
                    sip_hangup_phrase=phrase,
                    last_bridge_proto_specific_hangup_cause=f"sip:{status}",
                )

    def _bridged(self, other: Channel) -> None:
        leg = self.leg
        leg.variables["originated_legs"] = f"{other.uuid};Outbound Call;{other.profile.destination}"
        if other.answered:
            leg.profile.callee_name = leg.profile.callee_number = other.profile.destination
            self.house.switch.answer(leg)
        else:
            other.on_answer = lambda: self.house.switch.answer(leg)
        self._bridge_result("NONE")
        self.house.switch.bridge(leg, other, afterwards=self._after_bridge)

    def _after_bridge(self) -> None:
        self.dial = None
        self.leg.on_hangup = self.leg.on_break = self.break_off
        if self.leg.variables.get("hangup_after_bridge") == "true":
            self.steps.clear()
        self.next()

    def _not_bridged(self, cause: str) -> None:
        if self.broken:
            return
        self._bridge_result(cause)
        self.dial = None
        if cause in _GOES_ON or self.leg.variables.get("continue_on_fail") == "true":
            self.next()
        else:
            self.house.switch.hang_up(self.leg, cause)


class Digits:
    """`play_and_get_digits`: until a key that ends it, as many digits as there may be, or silence; again if
    it is not what was asked for. The sounds take no time here."""

    def __init__(self, execution: Execution, data: str) -> None:
        least, most, tries, timeout, ends, _, _, variable, wanted, *between = data.split(" ")
        self._execution = execution
        self._leg = execution.leg
        self._least, self._most, self._tries, self._ends = int(least), int(most), int(tries), ends
        self._variable, self._wanted = variable, wanted
        self._first = float(timeout) / 1000
        self._between = float(between[0]) / 1000 if between else self._first
        self._keyed = ""
        self._turn = 0
        self._leg.variables.drop(variable)

    def ask(self) -> None:
        if not self._leg.up or self._execution.broken:
            return
        if self._tries == 0:
            self._execution.next()
            return
        self._tries -= 1
        self._keyed = ""
        self._leg.on_key = self._pressed
        self._wait(self._first)

    def _wait(self, seconds: float) -> None:
        self._turn += 1
        self._execution.house.switch.after(seconds, partial(self._silence, self._turn))

    def _silence(self, turn: int) -> None:
        if turn == self._turn:
            self._done()

    def _pressed(self, key: str) -> None:
        if key not in self._ends:
            self._keyed += key
        if key in self._ends or len(self._keyed) >= self._most:
            self._done()
        else:
            self._wait(self._between)

    def _done(self) -> None:
        self._turn += 1
        self._leg.on_key = lambda _key: None
        if len(self._keyed) >= self._least and re.search(self._wanted, self._keyed):
            self._leg.variables[self._variable] = self._keyed
            self._execution.next()
        else:
            self.ask()
