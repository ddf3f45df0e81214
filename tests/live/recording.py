"""Calls that are missed, or are not, each recorded with its reason, wait and operator."""

from __future__ import annotations

from functools import partial

import gevent

from tests.live.centre import Centre
from tests.live.suite import Play, expect


def gives_up(centre: Centre) -> str:
    number = centre.client()
    centre.gives_up(number, "30quiet", after=3.0)
    return expect(
        centre.row(number, hangup_cause="NORMAL_CLEARING"),
        reason="abandoned",
        timewait=(2, 3, 4),
        operator=None,
    )


def gives_up_at_once(centre: Centre) -> str:
    number = centre.client()
    centre.gives_up(number, "30quiet", after=0.3)
    return expect(centre.row(number), reason="abandoned", timewait=(0, 1), closed_as=("blocked", None))


def gives_up_while_an_agent_rings(centre: Centre) -> str:
    agent, number = centre.agent("quiet", "silent"), centre.client()
    centre.on(agent)
    inside = centre.calls(number, "30quiet")
    gevent.sleep(2.5)
    centre.hangs_up(inside)
    seen = expect(centre.row(number), reason="abandoned", operator=agent)
    centre.off(agent)
    return seen


def waits_too_long(centre: Centre) -> str:
    number = centre.client()
    centre.calls(number, "3200")
    return expect(centre.row(number, within=15), reason="timeout", timewait=(3, 4), queue="short@default")


def nobody_logged_in(centre: Centre) -> str:
    number = centre.client()
    centre.calls(number, "30alone")
    return expect(centre.row(number, within=20), reason="no_agent", queue="alone@default")


def exit_key(centre: Centre) -> str:
    number = centre.client()
    inside = centre.calls(number, "3500")
    gevent.sleep(2.0)
    centre.presses(inside, "9")
    return expect(centre.row(number), reason="exit_key", timewait=(1, 2, 3))


def answered(centre: Centre) -> str:
    agent, number = centre.agent("quiet"), centre.client()
    centre.on(agent)
    inside = centre.calls(number, "30quiet")
    centre.until(lambda: centre.state(agent) == "In a queue call", 15, "an answer")
    gevent.sleep(0.5)
    centre.hangs_up(inside)
    centre.off(agent)
    return no_row(centre, number)


def next_queue_gives_up(centre: Centre) -> str:
    number = centre.client()
    inside = centre.calls(number, "3300")
    gevent.sleep(6.0)
    centre.hangs_up(inside)
    row = centre.row(number, hangup_cause="NORMAL_CLEARING")
    return expect(row, reason="abandoned", queue="quiet@default", timewait=(5, 6, 7))


def next_queue_answers(centre: Centre) -> str:
    agent, number = centre.agent("quiet"), centre.client()
    inside = centre.calls(number, "3300")
    gevent.sleep(4.0)
    centre.on(agent)
    centre.until(lambda: centre.state(agent) == "In a queue call", 15, "an answer")
    gevent.sleep(0.5)
    centre.hangs_up(inside)
    centre.off(agent)
    return no_row(centre, number)


def picked_up(centre: Centre) -> str:
    number = centre.client()
    inside = centre.calls(number, "30quiet")
    gevent.sleep(1.5)
    centre.switch.api(f"bgapi originate sofia/gateway/world/1101 &intercept({inside})")
    gevent.sleep(2.0)
    centre.hangs_up(inside)
    return no_row(centre, number)


def comes_back(centre: Centre) -> str:
    number = centre.client()
    centre.gives_up(number, "30quiet")
    agent = centre.agent("quiet")
    inside = centre.calls(number, "30quiet")
    centre.on(agent)
    centre.until(lambda: centre.state(agent) == "In a queue call", 15, "an answer")
    row = centre.row(number, state="closed")
    centre.hangs_up(inside)
    centre.off(agent)
    assert centre.switch.dialled(number)[0] == 0
    return expect(row, closed_as=("served_inbound", "blocked"), reason="abandoned")


def transferred_number(centre: Centre) -> str:
    number = centre.client()
    centre.gives_up(number, "+12025551000")
    return expect(centre.row(number), reason="abandoned", calledid="+12025551000")


def direct(called: str, phone: str, reason: str, centre: Centre, gives_up_after: float | None = None) -> str:
    centre.switch.api(f"global_setvar phone_{called}={phone}")
    number = centre.client()
    inside = centre.calls(number, called)
    if gives_up_after is not None:
        gevent.sleep(gives_up_after)
        centre.hangs_up(inside)
    return expect(centre.row(number, within=15), reason=reason, operator=called)


def direct_answered(centre: Centre) -> str:
    number = centre.client()
    inside = centre.calls(number, "1102")
    gevent.sleep(2.0)
    centre.hangs_up(inside)
    return no_row(centre, number)


def no_row(centre: Centre, number: str) -> str:
    """Not at its end, and not once its CDR was read: longer than the engine waits for one."""
    gevent.sleep(1.5)
    rows = centre.rows(number)
    assert not rows, f"a row: {rows[0]['reason']}"
    return "no row"


OF_ONE_QUEUE = [
    Play("gave up in the queue", gives_up),
    Play("gave up at once", gives_up_at_once),
    Play("gave up while an agent's phone rang", gives_up_while_an_agent_rings),
    Play("pressed the exit key", exit_key),
    Play("was answered", answered),
    Play("timed out, gave up in the next queue", next_queue_gives_up),
    Play("timed out, was answered in the next queue", next_queue_answers),
    Play("was picked up out of the queue", picked_up),
    Play("gave up, came back and was answered", comes_back),
    Play("dialled a number that was transferred to the queue", transferred_number),
]
ELSEWHERE = [
    Play("waited too long", waits_too_long),
    Play("nobody logged in", nobody_logged_in),
    Play("straight to a phone: busy", partial(direct, "1111", "busy", "busy")),
    Play("straight to a phone: nobody answered", partial(direct, "1112", "silent", "no_answer")),
    Play("straight to a phone: declined", partial(direct, "1113", "declines", "failed")),
    Play(
        "straight to a phone: gave up while it rang",
        partial(direct, "1114", "silent", "cancelled", gives_up_after=1.5),
    ),
    Play(
        "straight to a phone: early media, gave up",
        partial(direct, "1115", "early", "cancelled", gives_up_after=1.5),
    ),
    Play("straight to a phone: answered", direct_answered),
]
