"""Recalls in each mode, with clients and agents who do what people do."""

from __future__ import annotations

import array
import wave
from functools import partial
from pathlib import Path

import gevent

from freeswitch_callback.core.facts import Decision, Say
from tests.live.centre import MODES, Centre
from tests.live.suite import Play, expect


def recall(queue: str, client: str, phone: str, outcomes: tuple[str, ...], centre: Centre) -> str:
    """One client gave up; one agent of that queue logs in."""
    agent, number = centre.agent(queue, phone), centre.client(client)
    centre.gives_up(number, f"30{queue}")
    centre.until(lambda: centre.rows(number)[0]["hangup_cause"], 10, "the call's end")
    centre.on(agent)
    if outcomes == ("connected",) and client in ("answers", "presses 1"):
        talk(centre, number)
    outcome = centre.outcome(number, 30)
    centre.off(agent)
    assert outcome in outcomes, f"wanted {outcomes}, and there is {outcome}"
    centre.until(lambda: centre.state(agent) == "Waiting", 10, f"{agent} to be released")
    legs, at_once = centre.switch.dialled(number)
    assert at_once <= 1, f"{at_once} legs to the client at once"
    assert legs <= 1, f"{legs} legs to the client"
    row = centre.rows(number)[0]
    if client in ("answers", "presses 1") and outcomes == ("connected",):
        assert row["closed_as"] == "recalled", row["closed_as"]
    if row["state"] == "waiting":  # else the next play's agent would have this client to call
        centre.close_recall(number)
    return f"{outcome}, {row['closed_as'] or row['state']}, {legs} leg"


def talk(centre: Centre, number: str) -> None:
    """Both talk for longer than counts, and hang up."""
    centre.until(
        lambda: any(a["connected_at"] for a in centre.attempts(number)),
        20,
        f"{number} to talk",
        lambda: str(centre.attempts(number))[:300],
    )
    gevent.sleep(1.5)
    centre.switch.api(f"uuid_kill {centre.attempts(number)[-1]['call_uuid']}")


def plays(queue: str) -> list[Play]:
    mode = MODES[queue]
    ends = {
        "answers": ("connected",),
        "busy": ("busy",),
        "silent": ("no_answer",),
        "unallocated": ("unallocated",),
        "hangs up early": ("connected", "client_hung_up"),
    }
    of_clients = [
        Play(f"{mode}: the client {_told(c)}", partial(recall, queue, c, "", o)) for c, o in ends.items()
    ]
    silent = ("agent_no_answer", "client_hung_up") if mode == "queue" else ("agent_no_answer",)
    declined = silent if mode == "queue" else ("agent_declined",)
    return [
        *of_clients,
        Play(f"{mode}: the agent does not answer", partial(recall, queue, "answers", "silent", silent)),
        Play(f"{mode}: the agent declines", partial(recall, queue, "answers", "declines", declined)),
    ]


def _told(kind: str) -> str:
    return {"answers": "answers and talks", "busy": "is busy", "silent": "does not answer",
            "unallocated": "has no such number"}.get(kind, kind)  # fmt: skip


def connected_by_the_dialplan(queue: str, announced: bool, centre: Centre) -> str:
    """The client presses 1, and they are recorded; the announcement is for a client who comes first."""
    agent, number = centre.agent(queue), centre.client("presses 1")
    centre.gives_up(number, f"30{queue}")
    centre.on(agent)
    talk(centre, number)
    seen = expect(centre.row(number, state="closed"), closed_as="recalled")
    centre.off(agent)
    first_leg = centre.attempts(number)[-1]["call_uuid"]
    played = centre.switch.ran(first_leg, "playback")
    assert played == ([str(centre.switch.announcement)] if announced else []), played
    recording = centre.switch.recordings / f"callback-{first_leg}.wav"
    centre.until(recording.exists, 5, "a recording")
    seconds, loudest = heard(recording)
    assert seconds > 1.0, f"a recording of {seconds:.1f} s"
    assert (loudest > 1000) == announced, f"the recording's loudest sample is {loudest}"
    what = "announced and recorded" if announced else "recorded"
    return f"{seen}, {what}, {seconds:.1f} s"


def heard(recording: Path) -> tuple[float, int]:
    """Its seconds, and its loudest sample: everybody else in this centre is silent."""
    with wave.open(str(recording)) as sound:
        samples = array.array("h", sound.readframes(sound.getnframes()))
        return sound.getnframes() / sound.getframerate(), max(map(abs, samples), default=0)


def accepted_on_the_page(centre: Centre) -> str:
    """Nothing is dialled before the agent has said so there, however long they look at it."""
    agent, number = centre.agent("paged"), centre.client()
    centre.gives_up(number, "30paged")
    centre.on(agent)
    attempt = offered(centre, agent)
    gevent.sleep(2.0)
    assert centre.state(agent) == "Reserved", centre.state(agent)
    assert centre.switch.dialled(number)[0] == 0, "dialled unasked"
    assert centre.ledger.decide(agent, Decision(attempt, Say.ACCEPT, "anna")), "not heard"
    talk(centre, number)
    seen = expect(centre.row(number, state="closed"), closed_as="recalled", recalloperator=agent)
    centre.off(agent)
    centre.until(lambda: centre.state(agent) == "Waiting", 10, f"{agent} to be released")
    legs = centre.switch.dialled(number)[0]
    assert legs == 1, f"{legs} legs to the client"
    return f"{seen}; {legs} leg, after the word"


def rejected_on_the_page(centre: Centre) -> str:
    agent, number = centre.agent("paged"), centre.client()
    centre.gives_up(number, "30paged")
    centre.on(agent)
    attempt = offered(centre, agent)
    assert centre.ledger.decide(agent, Decision(attempt, Say.REJECT, "anna", reason="a known joker")), (
        "not heard"
    )
    seen = expect(centre.row(number, state="closed"), closed_as="rejected", note="a known joker")
    centre.off(agent)
    centre.until(lambda: centre.state(agent) == "Waiting", 10, f"{agent} to be released")
    assert centre.switch.dialled(number)[0] == 0, "dialled in spite of it"
    return seen


def offered(centre: Centre, agent: str) -> int:
    """The attempt that waits for this agent's word, who has their page open, once there is one and they are
    reserved."""
    centre.ledger.people.pages_open([agent], 60.0)
    centre.until(
        lambda: centre.ledger.at_hand(agent) is not None and centre.state(agent) == "Reserved",
        20,
        f"an offer to {agent}",
    )
    attempt = centre.ledger.at_hand(agent)
    assert attempt is not None
    return attempt


CONNECT = [
    Play(
        "through callback_connect, agent-first: a client who presses 1",
        partial(connected_by_the_dialplan, "asking", False),
    ),
    Play(
        "through callback_connect, client-first: a client who presses 1",
        partial(connected_by_the_dialplan, "told", True),
    ),
    Play(
        "through callback_connect, agent-first: a machine",
        partial(recall, "asking", "answers", "", ("no_answer",)),
    ),
    Play(
        "through callback_connect, client-first: a machine",
        partial(recall, "told", "answers", "", ("client_hung_up",)),
    ),
]
PAGED = [
    Play("the agent accepts on their page", accepted_on_the_page),
    Play("the agent rejects on their page", rejected_on_the_page),
]
