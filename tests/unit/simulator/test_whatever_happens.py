"""Whatever callers, agents, clients and commands do to each other, nothing is left over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from freeswitch_callback.simulator import (
    Answers,
    Busy,
    Congested,
    Declines,
    EarlyMediaOnly,
    Silent,
    Unregistered,
)
from tests.unit.simulator.stage import Stage

# Tenths of a second, so that things often fall into the same moment.
moments = st.integers(0, 40).map(lambda tenths: tenths / 10)
behaviours = st.one_of(
    st.builds(Answers, after=moments, talks=moments),
    st.builds(Answers, after=moments, hangs_up=st.integers(41, 60).map(lambda tenths: tenths / 10)),
    st.sampled_from([Busy(), Declines(), Silent(), Congested(), EarlyMediaOnly(), Unregistered()]),
)
MODES = (
    "sofia/internal/{agent}@127.0.0.1:5090 &bridge(sofia/gateway/main/{client})",
    "sofia/gateway/main/{client} &bridge(sofia/internal/{agent}@127.0.0.1:5090)",
    "sofia/gateway/main/{client} &callcenter(support@default)",
)
happenings = st.one_of(
    st.tuples(st.just("call"), moments, moments, moments),
    st.tuples(st.just("direct"), moments, behaviours, moments),
    st.tuples(st.just("recall"), moments, st.sampled_from(MODES), st.sampled_from(["1001", "1002"])),
    st.tuples(st.just("intercept"), moments, moments, moments),
    st.tuples(st.just("transfer"), moments, moments, moments),
    st.tuples(st.just("break"), moments, st.sampled_from(["1001", "1002"]), moments),
)


def happen(stage: Stage, number: int, what: tuple) -> None:  # type: ignore[type-arg]
    kind, at, one, two = what
    sim = stage.sim
    caller = f"+120255501{number:02}"

    def begin() -> None:
        match kind:
            case "call":
                sim.call(caller, gives_up_after=one, hangs_up_after_talk=two)
            case "direct":
                sim.direct_call(caller, "2001", behaviour=one, gives_up_after=two, hangs_up_after_talk=1.0)
            case "recall":
                target = one.format(agent=two, client=f"+120255502{number:02}")
                variables = "{originate_timeout=4,ignore_early_media=true}"
                stage.client.receive(f"bgapi originate {variables}{target}\n\n".encode())
            case "intercept":
                call = sim.call(caller, gives_up_after=one + 0.1, hangs_up_after_talk=1.0)
                stage.clock.after(two, lambda: call.intercept(by="1002@default"))
            case "transfer":
                call = sim.call(caller, gives_up_after=one + 0.1, hangs_up_after_talk=2.0)
                stage.clock.after(two, lambda: call.transfer(to="3000"))
            case "break":
                sim.set_status(f"{one}@default", "On Break")
                stage.clock.after(two, lambda: sim.set_status(f"{one}@default", "Available"))

    stage.clock.after(at, begin)


@settings(max_examples=80, deadline=None)
@given(
    agents=st.lists(behaviours, min_size=2, max_size=2),
    clients=behaviours,
    strategy=st.sampled_from(["longest-idle-agent", "ring-all", "round-robin"]),
    reserve_agents=st.booleans(),
    tick=st.sampled_from([0.0, 0.02]),
    story=st.lists(happenings, max_size=8),
)
def test_nothing_is_left_over(agents, clients, strategy, reserve_agents, tick, story) -> None:  # type: ignore[no-untyped-def]
    stage = Stage(agents=2, reserve_agents=reserve_agents, tick=tick)
    stage.sim.callcenter.queues["support@default"].strategy = strategy
    for name, behaviour in zip(("1001@default", "1002@default"), agents, strict=True):
        stage.sim.agent(name).contact = "[leg_timeout=3]" + stage.sim.agent(name).contact
        stage.sim.set_behaviour(name, behaviour)
    stage.sim.default_client(clients)
    for number, what in enumerate(story):
        happen(stage, number, what)
    stage.clock.advance(20)
    stage.api("hupall")  # who is still there would talk for ever
    stage.clock.advance(5)

    assert stage.sim.switch.channels == {}
    assert stage.sim.calls == set()
    assert {agent.state for agent in stage.sim.roster.agents.values()} == {"Waiting"}
    assert all(member.state == "Abandoned" for member in stage.sim.callcenter.members)
    assert all(number == 0 for number in stage.sim.dialler.live.values())
    legs: dict[str, list[str]] = {}
    for event in stage.events:
        if event["Event-Name"].startswith("CHANNEL_"):
            legs.setdefault(event["Unique-ID"], []).append(event["Event-Name"])
    for of_leg in legs.values():
        assert of_leg[0] == "CHANNEL_CREATE"
        assert of_leg[-1] == "CHANNEL_HANGUP_COMPLETE"
        once = ("CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE")
        assert all(of_leg.count(name) <= 1 for name in once)
        assert of_leg.count("CHANNEL_BRIDGE") == of_leg.count("CHANNEL_UNBRIDGE")
    waits: dict[tuple[str, str], list[str]] = {}
    for event in stage.events:
        if event.get("CC-Action", "").startswith("member-queue"):
            waits.setdefault((event["CC-Member-UUID"], event["CC-Queue"]), []).append(event["CC-Action"])
    assert all(actions == ["member-queue-start", "member-queue-end"] for actions in waits.values())
