"""What an event costs: the same bytes through a socket into our client, stock greenswitch and Genesis.

Beside them the floor, `bare`: a reader that cuts frames, checks nothing and parses nothing.

CPU of the client's process alone, per event: how fast they come does not matter. Genesis has an environment
of its own (`GENESIS`, made when it is not there); without the network it is left out, and said so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.machine import ROOT, read

GENESIS = ROOT / "build" / "genesis"
GENESIS_RELEASE = "genesis>=1.0"


ROUNDS = 8
"""How often each client is measured, one after the other. What else this machine does only ever adds to an
event's cost, up to twice as much from one second to the next: the least of all rounds is the client's own."""


def run(events: int = 20_000) -> dict[str, Any]:
    """Of each client: microseconds of CPU per event, and events per second, in its best round, MB in its
    worst; how many times ours that is. A slow one gets fewer events."""
    module = [sys.executable, "-m", "tests.bench.readers"]
    clients = {which: ([*module, which], events) for which in ("ours", "bare", "daemon")}
    clients["greenswitch"] = [*module, "greenswitch"], events // 4
    python = _genesis()
    if python is not None:
        reader = Path(__file__).with_name("genesis_reader.py")
        clients["genesis"] = [str(python), str(reader)], events // 8
    rounds = [
        {which: _figures(read(words, count), count) for which, (words, count) in clients.items()}
        for _ in range(ROUNDS)
    ]
    found: dict[str, Any] = {"events": events, "rounds": ROUNDS, "genesis": None}
    for which in clients:
        found[which] = {
            name: pick(figures[which][name] for figures in rounds) for name, pick in _PICKS.items()
        }
    found["standing"] = {"MB": read([*module, "standing"], 100_000)["kB"] / 1024}
    for other in ("greenswitch", "genesis"):
        if found[other]:
            found[f"{other}_to_ours"] = found[other]["us_per_event"] / found["ours"]["us_per_event"]
    found["ours_to_bare"] = found["ours"]["us_per_event"] / found["bare"]["us_per_event"]
    here = machine.times_slower([{which: found[which]["us_per_event"] for which in machine.THERE}])
    return found | {"machine": here, "ours_there": machine.there(found["ours"], here, "us_per_event")}


_PICKS: dict[str, Callable[[Iterable[float]], float]] = {
    "us_per_event": min,
    "events_per_second": max,
    "MB": max,
}


def _figures(used: dict[str, float], events: int) -> dict[str, float]:
    return {
        "us_per_event": used["cpu"] / events * 1e6,
        "events_per_second": events / used["seconds"],
        "MB": used["kB"] / 1024,
    }


def _genesis() -> Path | None:
    """The interpreter of an environment with Genesis; None if it cannot be installed here."""
    python = GENESIS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", GENESIS], check=True)
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", GENESIS_RELEASE], capture_output=True
    )
    return python if installed.returncode == 0 else None


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
