"""The engine killed in each phase of a recall, FreeSWITCH killed, and calls while the engine is away."""

from __future__ import annotations

import signal
import time
from functools import partial

import gevent

from freeswitch_callback.core.facts import Decision, Say
from tests.live.centre import Centre
from tests.live.recalls import offered, talk
from tests.live.suite import Play, expect


def killed(client: str, phone: str, phase: str, centre: Centre) -> str:
    """In all three modes at once: the engine is killed in that phase of a recall, and started again."""
    queues = ("support", "client", "through")
    waiting = [gevent.spawn(one_recall, queue, client, phone, centre) for queue in queues]
    started = [one.get() for one in waiting]
    for agent, _ in started:
        centre.on(agent)
    numbers = [number for _, number in started]
    if phase == "talking":
        centre.until(lambda: all(connected(centre, number) for number in numbers), 20, "three talks")
    else:
        centre.until(lambda: all(centre.attempts(number) for number in numbers), 20, "three attempts")
        gevent.sleep(0.6)
    centre.end(signal.SIGKILL)
    gevent.sleep(2.0)
    if phase == "talking":
        for number in numbers:
            centre.switch.api(f"uuid_kill {centre.attempts(number)[-1]['call_uuid']}")
    centre.start()
    if phase == "agents":  # they answered meanwhile: the next engine follows what is up
        centre.until(lambda: all(connected(centre, number) for number in numbers), 60, "three talks")
        gevent.sleep(1.5)
        for number in numbers:
            centre.switch.api(f"uuid_kill {centre.attempts(number)[-1]['call_uuid']}")
    outcomes = [centre.outcome(number, 60) for number in numbers]
    for agent, _ in started:
        centre.off(agent)
    centre.until(
        lambda: all(centre.state(agent) == "Waiting" for agent, _ in started), 20, "the agents' release"
    )
    assert "unknown" not in outcomes, outcomes
    if phase != "clients":
        assert set(outcomes) == {"connected"}, outcomes
    legs = [centre.switch.dialled(number) for number in numbers]
    assert all(at_once <= 1 for _, at_once in legs), f"legs, and at once: {legs}"
    return f"{', '.join(outcomes)}; legs {', '.join(str(count) for count, _ in legs)}; agents released"


def killed_before_anything_was_sent(centre: Centre) -> str:
    """The agent is reserved, and asked on their page: the engine is killed, and nothing was dialled."""
    agent, number = one_recall("paged", "answers", "", centre)
    centre.on(agent)
    offered(centre, agent)
    centre.end(signal.SIGKILL)
    centre.off(agent)
    assert centre.state(agent) == "Reserved", "nobody is there to release them"
    centre.start()
    centre.until(lambda: centre.state(agent) == "Waiting", 60, f"{agent} to be released")
    centre.until(lambda: not centre.ledger.reservations(), 10, "the reservation to be struck")
    assert centre.switch.dialled(number)[0] == 0, "dialled unasked"
    centre.on(agent)
    assert centre.ledger.decide(agent, Decision(offered(centre, agent), Say.ACCEPT, "anna")), "not heard"
    talk(centre, number)
    seen = expect(centre.row(number, state="closed"), closed_as="recalled")
    centre.off(agent)
    legs = centre.switch.dialled(number)[0]
    assert legs == 1, f"{legs} legs to the client"
    return f"released; then {seen}, {legs} leg"


def one_recall(queue: str, client: str, phone: str, centre: Centre) -> tuple[str, str]:
    """An agent who is not on duty yet, and who waits for a recall."""
    agent, number = centre.agent(queue, phone), centre.client(client)
    centre.gives_up(number, f"30{queue}")
    centre.row(number, hangup_cause="NORMAL_CLEARING")
    return agent, number


def connected(centre: Centre, number: str) -> bool:
    return any(attempt["connected_at"] for attempt in centre.attempts(number))


def freeswitch_killed(centre: Centre) -> str:
    agent, talked, waited = centre.agent("support"), centre.client(), centre.client()
    centre.gives_up(talked, "30support")
    centre.on(agent)
    centre.until(lambda: connected(centre, talked), 20, "a talk")
    gevent.sleep(1.5)
    centre.calls(waited, "30quiet")
    gevent.sleep(2.0)
    centre.switch.end(signal.SIGKILL)
    gevent.sleep(1.0)
    centre.switch.start()
    seen = expect(centre.row(waited, within=30), reason="failed")
    row = centre.row(talked, within=60, state="closed")
    return f"who waited: {seen}; who talked: {expect(row, closed_as='recalled')}"


def missed_while_away(centre: Centre) -> str:
    assert centre.end() == 0
    centre.switch.api("global_setvar phone_1103=busy")
    queued, hooked, asked, said = (centre.client() for _ in range(4))
    inside = [centre.calls(queued, "30quiet"), centre.calls(hooked, "hook1103"), centre.calls(asked, "3600")]
    other = centre.calls(said, "3600")
    target = centre.client()
    centre.presses(inside[2], "1", asked=1)
    centre.presses(other, "2", asked=1)
    centre.presses(other, f"{target[2:]}#", asked=2)
    gevent.sleep(2.5)
    centre.hangs_up(inside[0])
    gevent.sleep(2.5)
    centre.start()
    seen = [
        expect(centre.row(queued, within=20), reason="abandoned"),
        expect(centre.row(hooked, within=40), reason="busy", operator="1103"),
        expect(centre.row(asked, within=40), reason="requested"),
        expect(centre.row(target, within=40), reason="requested", extra={"called_from": said}),
    ]
    left = "callback_missed", "callback_request"
    centre.until(
        lambda: all("-ERR" in centre.switch.api(f"db list/{realm}") for realm in left),
        20,
        "the records to be struck",
    )
    assert all(len(centre.rows(n)) == 1 for n in (queued, hooked, asked, target))
    return "; ".join(seen)


def two_hundred_at_once(centre: Centre) -> str:
    numbers = [centre.client() for _ in range(200)]
    where = f"sofia/inside/30quiet@127.0.0.1:{centre.switch.sip}"
    began = time.monotonic()
    for number in numbers:
        centre.switch.api(f"bgapi originate {{origination_caller_id_number={number}}}{where} &park()")
    centre.until(lambda: waiting(centre) >= 200, 60, "200 to wait", lambda: str(waiting(centre)))
    took = time.monotonic() - began
    centre.switch.api("hupall NORMAL_CLEARING")
    centre.until(
        lambda: all(centre.rows(number) for number in numbers),
        60,
        "200 rows",
        lambda: f"{sum(bool(centre.rows(n)) for n in numbers)} rows",
    )
    gevent.sleep(2.0)
    assert all(len(centre.rows(number)) == 1 for number in numbers)
    return f"200 rows, once each; they were all waiting after {took:.1f} s"


def waiting(centre: Centre) -> int:
    """`queue count members` counts those who have gone too."""
    return centre.switch.api("callcenter_config queue list members quiet@default").count("|Waiting|")


CATCHING_UP = [Play("missed while the engine was away", missed_while_away)]
PLAYS = [
    Play("engine killed with an agent reserved and nothing sent", killed_before_anything_was_sent),
    Play("engine killed as clients' phones rang, in each mode", partial(killed, "silent", "", "clients")),
    Play("engine killed as agents' phones rang, in each mode", partial(killed, "answers", "slow", "agents")),
    Play("engine killed as they talked, in each mode", partial(killed, "answers", "", "talking")),
    Play("200 calls at once", two_hundred_at_once),
    Play("FreeSWITCH killed and started again", freeswitch_killed),
]
