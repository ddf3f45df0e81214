"""Recalls in each mode, with clients and agents who do what people do."""

from __future__ import annotations

from functools import partial

import gevent

from tests.live.centre import MODES, Centre
from tests.live.suite import Play


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


ASKING = [
    Play(
        "through callback_connect: a client who presses 1",
        partial(recall, "asking", "presses 1", "", ("connected",)),
    ),
    Play("through callback_connect: a machine", partial(recall, "asking", "answers", "", ("no_answer",))),
]
