"""How long from "this agent is free" to the order to call.

From agent-state-change sent to `bgapi originate` received, both taken in the simulator's process by its own
clock. In between lie the event's way, the decision, the claim on disk, the reservation's round trip, the
second look at the agent and the originate.

Beside it, in the same run: two floors (`floor`), how fast this machine is (`machine`), and the same engine if
it polled instead of listening.

`python -m tests.bench.reaction --database sqlite --recalls 100000` prints JSON.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from tests.bench import floor, machine  # noqa: E402
from tests.bench.contact_centre import (  # noqa: E402
    ContactCentre,
    database,
    fill,
    log_as_the_service,
    running_engine,
    statements,
    told,
)

ROUNDS = 6
"""How often all are measured, one after the other: the machine is not as fast in each minute."""
WARM = 20
"""Reactions of each new engine that are not counted: one for each queue, whose line is not known before one
of its agents was free. They take half as long again as those behind, which become no faster from then on."""
TALKS = 0.02
"""Seconds that client and agent talk: the recall is over 10 to 20 ms later, before the next agent becomes
free, half a `gap` after the last at the soonest."""


def run(
    database_kind: str,
    recalls: int = 100_000,
    agents: int = 1_000,
    *,
    queues: int = 20,
    times: int = 600,
    gap: float = 0.1,
    calls_per_second: float = 10.0,
    polls: tuple[float, ...] = (),
) -> dict[str, Any]:
    """Times in milliseconds; `gap` is the seconds between the end of one reaction and the next free agent."""
    centre = ContactCentre(agents, queues, TALKS)
    try:
        with database(database_kind) as url:
            fill(url, recalls, queues)
            centre.ask("traffic", per_second=calls_per_second)
            rounds: dict[str, list[dict[str, Any]]] = {"least": [], "ours": [], "same": []}
            speeds = []
            for _ in range(ROUNDS):
                speeds.append(machine.speed())
                rounds["least"].append(floor.least(url, centre, times // ROUNDS, gap))
                rounds["ours"].append(_ours(url, centre, times // ROUNDS, gap))
                rounds["same"].append(floor.same_steps(url, centre, times // ROUNDS, gap))
            polled = {f"poll {poll:g} s": _polled(url, centre, poll) for poll in polls}
    finally:
        centre.close()
    least, ours, same = (_together(of_all) for of_all in rounds.values())
    here = machine.times_slower(speeds)
    commits = [seconds for one in rounds["least"] for seconds in one["commits"]]
    return {
        "database": database_kind,
        "recalls": recalls,
        "agents": agents,
        "reaction": ours,
        "machine": here,
        "reaction_there": machine.there(ours, here, "p50", "p99"),
        "the_same_steps": same,
        "ratio_p50_same_steps": round(ours["p50"] / same["p50"], 2),
        "ratio_p99_same_steps": round(ours["p99"] / same["p99"], 2),
        "least": least | {"commit": told(commits)},
        "ratio_p50_least": round(ours["p50"] / least["p50"], 2),
        "ratio_p99_least": round(ours["p99"] / least["p99"], 2),
    } | polled


def _together(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The reactions of several rounds as one, and what else the last has told."""
    reactions = [seconds for one in rounds for seconds in one["reactions"]]
    more = {name: value for name, value in rounds[-1].items() if name not in ("reactions", "commits")}
    return told(reactions) | more | {"late": sum(one["late"] for one in rounds)}


def grown(database_kind: str, sizes: Sequence[int]) -> dict[str, Any]:
    """The same with so many recalls open, each in a process of its own, whose memory is that of no other; and
    the last p50 by the first."""
    found = {}
    for recalls in sizes:
        words = ["--database", database_kind, "--recalls", str(recalls), "--times", "150", "--alone"]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.bench.reaction", *words],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        found[str(recalls)] = json.loads(done.stdout)
    first, *_, last = found.values()
    return {"database": database_kind, **found, "growth_p50": round(last["p50"] / first["p50"], 2)}


def alone(database_kind: str, recalls: int, agents: int, times: int) -> dict[str, Any]:
    """Without what stands beside it."""
    centre = ContactCentre(agents, 20, TALKS)
    try:
        with database(database_kind) as url:
            fill(url, recalls, 20)
            centre.ask("traffic", per_second=10.0)
            reaction = _together([_ours(url, centre, times, 0.1)])
    finally:
        centre.close()
    return {name: reaction[name] for name in ("p50", "p99", "late", "memory_mb")}


def _ours(url: str, centre: ContactCentre, times: int, gap: float) -> dict[str, Any]:
    with running_engine(url, centre) as engine, statements() as asked:
        warm = centre.ask("react", first=0, times=WARM, gap=gap)
        asked.clear()
        cpu = time.process_time()
        before, started = _resident(), time.monotonic()
        found = centre.ask("react", first=WARM, times=times, gap=gap)
        cpu, seconds = time.process_time() - cpu, time.monotonic() - started
        idle = _idle_cpu(seconds / 4)
        return {
            "reactions": found["reactions"],
            "late": found["late"] + warm["late"],
            "cpu_ms_per_recall": round((cpu - idle * seconds) / times * 1000, 3),
            "idle_cpu_percent": round(idle * 100, 2),
            "statements_per_recall": round(asked.number / times, 2),
            "memory_mb": round(_resident()),
            "memory_grew_mb": round(_resident() - before, 1),
            "engine": engine.name,
        }


def _idle_cpu(seconds: float) -> float:
    """Share of a core that the engine takes while only other calls' events come in."""
    cpu = time.process_time()
    gevent.sleep(seconds)
    return (time.process_time() - cpu) / seconds


def _polled(url: str, centre: ContactCentre, poll: float) -> dict[str, Any]:
    """The same engine, deaf to events between two looks."""
    with running_engine(url, centre, poll) as engine:
        deaf: Callable[..., None] = lambda **_: None  # noqa: E731
        engine.look = deaf  # type: ignore[method-assign]
        for site in engine.sites:
            site.recaller._wake = deaf
            site.recaller.start_at_once = lambda: False  # type: ignore[method-assign]
        found = centre.ask("scatter", first=0, times=20, within=2 * poll, wait=2 * poll + 5)
        return told(found["reactions"]) | {"late": found["late"]}


def _resident() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 1e6


def main() -> None:
    log_as_the_service()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--recalls", type=int, default=100_000)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=600)
    parser.add_argument("--polls", type=float, nargs="*", default=[])
    parser.add_argument("--growth", type=int, nargs="*", metavar="RECALLS", help="with so many recalls each")
    parser.add_argument("--alone", action="store_true", help="without what stands beside it")
    given = parser.parse_args()
    if given.growth:
        print(json.dumps(grown(given.database, given.growth), indent=2))
        return
    if given.alone:
        print(json.dumps(alone(given.database, given.recalls, given.agents, given.times), indent=2))
        return
    found = run(given.database, given.recalls, given.agents, times=given.times, polls=tuple(given.polls))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
