"""The world outside: agents' phones, clients' phones, and what each does when it rings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.stories import (
    Answers,
    Behaviour,
    Busy,
    ClientRule,
    EarlyMediaOnly,
    Refuses,
    Silent,
    Unregistered,
    extension_phone,
    usual_client,
)
from freeswitch_callback.simulator.switch import Switch


@dataclass(slots=True)
class Ring:
    """What a phone showed. `sip_headers` are those that our side added (`X-…`)."""

    at: float
    caller_id_name: str
    caller_id_number: str
    sip_headers: dict[str, str]
    answered: bool = False


@dataclass(slots=True)
class Phone:
    """`party`: ("agent", name), ("phone", extension) or ("number", outside number)."""

    party: tuple[str, str]
    behaviour: Callable[[], Behaviour]
    rings: list[Ring] = field(default_factory=list)
    calls: int = 0


class Phones:
    """Who is behind an address, and what they do."""

    def __init__(self, switch: Switch, random: Random) -> None:
        self._switch = switch
        self._random = random
        self._phones: dict[str, Phone] = {}
        self.clients: dict[str, Behaviour] = {}
        self.rule: ClientRule = usual_client

    def install(self, user: str, party: tuple[str, str], behaviour: Behaviour) -> None:
        """Put a phone at an address; an agent's, or a plain extension's."""
        phone = self._phones.setdefault(user, Phone(party, lambda: behaviour))
        phone.party, phone.behaviour = party, lambda: behaviour

    def at(self, user: str) -> Phone:
        """The phone at an address. Whoever is not of the house is an outside number."""
        phone = self._phones.get(user)
        if phone is None:
            behaviour = extension_phone(user)
            if behaviour is not None:
                phone = Phone(("phone", user), lambda: behaviour)
            else:
                phone = Phone(("number", user), lambda: self._client(user))
        return phone

    def of_the_house(self, user: str) -> bool:
        return user in self._phones or extension_phone(user) is not None

    def caller(self, number: str) -> tuple[str, str]:
        """Who calls with this number: one of the house, or an outside number."""
        return self.at(number).party if self.of_the_house(number) else ("number", number)

    def hang_up_all(self) -> None:
        """FreeSWITCH has crashed: no phone is in a call any more."""
        for phone in self._phones.values():
            phone.calls = 0

    def _client(self, number: str) -> Behaviour:
        chosen = self.clients.get(number)
        return chosen if chosen is not None else self.rule(number, self._random)

    def ring(self, phone: Phone, leg: Channel) -> None:
        """An INVITE has reached a phone; `leg` is the phone's own."""
        behaviour = phone.behaviour()
        if phone.calls and phone.party[0] == "agent":
            behaviour = Busy()
        ring = Ring(
            self._switch.now(),
            leg.profile.cid_name,
            leg.profile.cid_number,
            {name[6:]: value for name, value in leg.variables.items() if name.startswith("sip_h_")},
        )
        phone.rings.append(ring)
        phone.calls += 1

        def put_down() -> None:
            phone.calls -= 1

        leg.on_hangup = put_down
        leg.state, leg.number = "CS_EXECUTE", 4
        self._behave(behaviour, leg, ring)

    def _behave(self, behaviour: Behaviour, leg: Channel, ring: Ring) -> None:
        switch = self._switch
        match behaviour:
            case Answers(after=after, talks=talks, hangs_up=hangs_up):

                def pick_up() -> None:
                    if leg.up:
                        ring.answered = True
                        switch.answer(leg)
                        if hangs_up is not None:
                            switch.after(hangs_up - after, lambda: switch.hang_up(leg))

                if talks is not None:
                    leg.on_connected = lambda: switch.after(talks, lambda: switch.hang_up(leg))
                switch.ring(leg)
                switch.after(after, pick_up)
            case Refuses(cause=cause, after=after, rings=rings):
                if rings or after:
                    switch.ring(leg)
                switch.after(after, lambda: switch.hang_up(leg, cause))
            case Silent():
                switch.ring(leg)
            case EarlyMediaOnly(plays=plays):
                switch.early_media(leg)
                switch.after(plays, lambda: switch.hang_up(leg, "NO_ANSWER"))
            case Unregistered():
                switch.hang_up(leg, "SUBSCRIBER_ABSENT")
