"""From an agent getting free to the client's leg, both stamped by FreeSWITCH: the engine, beside a client
that only reserves the agent and dials."""

from __future__ import annotations

import statistics
import uuid

import gevent

from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.client import AnyEvent
from freeswitch_callback.esl.commands import Originate
from freeswitch_callback.esl.node import Node
from tests.live.centre import OURS, Centre
from tests.live.suite import Play
from tests.live.switch import PASSWORD

RUNS = 10


def measured(centre: Centre) -> str:
    agent = centre.agent("client")
    engine = [one(centre, agent) for _ in range(RUNS)]
    bare = Bare(centre)
    try:
        alone = [bare.one(agent) for _ in range(RUNS)]
    finally:
        bare.node.stop()
    return f"engine {told(engine)}; a bare client {told(alone)}"


def told(times: list[float]) -> str:
    least, median, most = (round(t * 1000) for t in (min(times), statistics.median(times), max(times)))
    return f"median {median} ms (from {least} to {most})"


def one(centre: Centre, agent: str) -> float:
    """Client-first: the client's leg is the first that is made."""
    number = centre.client()
    centre.gives_up(number, "30client")
    centre.until(lambda: centre.rows(number)[0]["hangup_cause"], 10, "the call's end")
    gevent.sleep(0.3)
    seconds = until_the_leg(centre, agent, number)
    centre.until(lambda: any(a["connected_at"] for a in centre.attempts(number)), 15, "a talk")
    gevent.sleep(1.2)
    centre.switch.api(f"uuid_kill {centre.attempts(number)[-1]['call_uuid']}")
    centre.row(number, closed_as="recalled")
    ready(centre, agent)
    return seconds


def until_the_leg(centre: Centre, agent: str, number: str) -> float:
    seen = len(centre.switch.told)
    centre.on(agent)

    def leg() -> list[float]:
        return [
            one.at
            for one in centre.switch.told[seen:]
            if one.name == "CHANNEL_CREATE" and one.destination == number and one.ours
        ]

    centre.until(leg, 15, f"a leg to {number}")
    free = [e.at for e in centre.switch.told[seen:] if e.agent == agent and e.status == "Available"]
    return leg()[0] - free[0]


def ready(centre: Centre, agent: str) -> None:
    centre.off(agent)
    centre.until(lambda: centre.state(agent) == "Waiting", 10, "the agent's release")


class Bare:
    """Reserves whoever becomes Available, and dials; it keeps no record, and asks nobody."""

    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        self.number = ""
        self.node = Node(
            "bare", "127.0.0.1", centre.switch.port, PASSWORD, on_event=self._event,
            subclasses=("callcenter::info",),
        )  # fmt: skip
        self.node.start()
        self.node.up.wait(10)

    def _event(self, event: AnyEvent) -> None:
        agent = event.get("CC-Agent")
        if event.get("CC-Agent-Status") == "Available" and agent and self.number:
            gevent.spawn(self._dial, agent)

    def _dial(self, agent: str) -> None:
        if callcenter.reserve(self.node, agent):
            self.call_uuid = str(uuid.uuid4())
            self.node.send_originate(
                Originate(
                    job_uuid=str(uuid.uuid4()), call_uuid=self.call_uuid, entry=1, mode="client-first",
                    number=self.number, dial_string="sofia/gateway/world/{number}", caller_id_number=OURS,
                    contact=f"sofia/gateway/world/{agent.partition('@')[0]}", queue="", ring_timeout=5,
                    wait=1, reason="abandoned", missed_id=1,
                )
            )  # fmt: skip

    def one(self, agent: str) -> float:
        self.number = self.centre.client()
        seconds = until_the_leg(self.centre, agent, self.number)
        gevent.sleep(0.8)
        self.centre.switch.api(f"uuid_kill {self.call_uuid}")
        self.centre.off(agent)
        callcenter.release(self.node, agent, lambda: True)
        gevent.sleep(0.3)
        return seconds


PLAYS = [Play(f"from an agent's getting free to the client's leg, {RUNS} times each", measured)]
