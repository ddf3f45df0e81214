"""A person who calls in, as a test or a demo holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gevent.event import Event

from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.dial import Dial, Origin
from freeswitch_callback.simulator.originate import Application, Destination, DialString
from freeswitch_callback.simulator.phones import Phone

if TYPE_CHECKING:
    from freeswitch_callback.simulator.simulator import Simulator


@dataclass(frozen=True, slots=True)
class Talk:
    """Two people who really talked; times are seconds since 1970."""

    number: str
    agent: str
    seconds: float
    started: float
    ended: float


class Call:
    """An inbound call. `uuid` is the inbound leg's; `ended` is set when the caller's side is over.

    `phone`: the one of the house that the call comes from; nobody can call it meanwhile.
    """

    def __init__(
        self,
        simulator: Simulator,
        number: str,
        name: str,
        plan: tuple[Application, ...] | None = None,
        phone: Phone | None = None,
    ) -> None:
        self._simulator = simulator
        self._switch = simulator.switch
        self.number = number
        self.name = name
        self.uuid = self._switch.new_uuid()
        self.ended = Event()
        self.talking = False
        self._world: Channel | None = None
        self._dial: Dial | None = None
        self._on_talk: float | None = None
        self._phone = phone
        if phone is not None:
            phone.calls += 1
        if plan is not None:
            simulator.house.plans[self.uuid] = plan

    def begin(
        self,
        destination: str,
        gives_up_after: float | None,
        presses_key: tuple[float, str] | None,
        hangs_up_after_talk: float | None,
        world_legs: bool | None,
    ) -> None:
        """Dial `destination` from the world outside."""
        variables = {"origination_caller_id_number": self.number, "ignore_early_media": "true"}
        if self.name:
            variables["origination_caller_id_name"] = self.name
        endpoint = f"sofia/pstn/{destination}@127.0.0.1:5060"
        string = DialString(variables, ((Destination(endpoint, {}),),))
        simulator, job = self._simulator, self._switch.new_uuid()
        command = (
            f"originate {{origination_caller_id_number={self.number},"
            f"origination_caller_id_name='{self.name}',ignore_early_media=true}}{endpoint} &park()"
        )
        seen = simulator.dialler.world_legs if world_legs is None else world_legs

        def finished(result: str) -> None:
            if seen:
                simulator.job_done(job, command, result)

        def answered(leg: Channel) -> None:
            finished(f"+OK {leg.uuid}\n")
            simulator.house.run(leg, (("park", ""),), "", Origin("world"))

        simulator.calls.add(self)
        self._on_talk = hangs_up_after_talk
        self._dial = simulator.dialler.dial(
            string,
            origin=Origin("world", far_uuid=self.uuid),
            on_success=answered,
            on_failure=lambda cause: finished(f"-ERR {cause}\n"),
            world_legs=world_legs,
        )
        self._world = leg = self._dial.created[0]
        ended = leg.on_complete

        def over() -> None:
            ended()
            self.lost()

        leg.on_complete = over
        leg.on_connected = self._connected
        if gives_up_after is not None:
            self._switch.after(gives_up_after, lambda: None if self.talking else self.hang_up())
        if presses_key is not None:
            self._switch.after(presses_key[0], lambda: self.press(presses_key[1]))

    def _connected(self) -> None:
        self.talking = True
        if self._on_talk is not None:
            self._switch.after(self._on_talk, self.hang_up)

    def lost(self) -> None:
        """The caller's side is over."""
        self._simulator.calls.discard(self)
        self._simulator.house.plans.pop(self.uuid, None)
        if self._phone is not None and self._phone.calls:  # none any more after a crash
            self._phone.calls -= 1
        self.ended.set()

    def hang_up(self) -> None:
        """The caller puts the phone down; before an answer that cancels the call."""
        if self._world is not None:
            self._switch.hang_up(self._world)

    def press(self, key: str) -> None:
        leg = self._switch.channels.get(self.uuid)
        if leg is not None:
            leg.on_key(key)

    def transfer(self, to: str) -> None:
        """Somebody transfers the call to another extension, out of a queue or out of a talk."""
        self._simulator.api(f"uuid_transfer {self.uuid} {to}")

    def intercept(self, by: str) -> None:
        """Somebody picks the call up from outside of the queue: `by` is an agent or a phone (`agent1002`)."""
        simulator, job = self._simulator, self._switch.new_uuid()
        user = simulator.user_of(by) if by in simulator.roster.agents else by
        endpoint = f"sofia/internal/{user}@127.0.0.1:5090"
        command = f"originate {{ignore_early_media=true}}{endpoint} &intercept({self.uuid})"
        simulator.commands_run(command, lambda text: simulator.job_done(job, command, text), text=command)
