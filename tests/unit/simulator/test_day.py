from __future__ import annotations

from freeswitch_callback.simulator import ManualClock, Simulator
from freeswitch_callback.simulator.day import Day, busy


def played(seed: int) -> tuple[Simulator, Day]:
    clock = ManualClock()
    sim = Simulator(seed=seed, clock=clock)
    day = busy(sim, seed, duration=60.0, agents=3)
    clock.advance(120)
    return sim, day


def test_a_busy_minute_has_callers_who_are_served_and_callers_who_are_not() -> None:
    sim, day = played(1)
    assert day.called_in > 15
    assert day.served > 3
    assert day.unserved > 3
    assert day.served + day.unserved == day.called_in
    assert len(sim.talks) == day.served
    assert sim.switch.channels == {}
    assert sim.executed == []


def test_the_seed_decides_the_day() -> None:
    def callers(seed: int) -> list[str]:
        return [call.number for call in played(seed)[1].calls]

    assert callers(1) == callers(1)
    assert callers(1) != callers(2)


def test_the_clients_of_a_day_react_in_different_ways() -> None:
    clock = ManualClock()
    sim = Simulator(clock=clock)
    busy(sim, 3, duration=1.0)
    frames: list[bytes] = []
    client = sim.attach(frames.append)
    client.receive(b"auth ClueCon\n\nevent plain BACKGROUND_JOB\n\n")
    for number in range(60):
        text = f"{{originate_timeout=10,ignore_early_media=true}}sofia/gateway/main/+120255501{number:02}"
        client.receive(f"bgapi originate {text} &park()\n\n".encode())
    clock.advance(30)
    said = b"".join(frames)
    assert said.count(b"-ERR USER_BUSY") > 2
    assert said.count(b"-ERR NO_ANSWER") > 2
    assert said.count(b"+OK ") > 20
