"""How fast this machine is now, by what others' code takes here and took on another.

A time in milliseconds is one of a machine; that other one is where stock greenswitch took 52 us for an event,
and a bare reader 2.9. Both are measured here between the other measurements of a run; how many times slower
this machine is, is the smaller of the two quotients, the one that excuses less.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

THERE = {"greenswitch": 52.0, "bare": 2.9}
"""Microseconds of processor for an event."""
_COUNTS = {"greenswitch": 4_000, "bare": 12_000}
_TAKES = 120.0
"""Seconds after which a client hangs."""


def speed() -> dict[str, float]:
    """Microseconds of processor for an event, by reader; takes a second or two."""
    return {
        which: read([sys.executable, "-m", "tests.bench.readers", which], count)["cpu"] / count * 1e6
        for which, count in _COUNTS.items()
    }


def times_slower(speeds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """`times_slower` than there, and what it was told from: the medians of several measurements."""
    here = {which: statistics.median(speed[which] for speed in speeds) for which in THERE}
    slower = min(here[which] / took for which, took in THERE.items())
    return {"times_slower": round(slower, 2)} | {
        f"{which}_us_per_event": round(took, 1) for which, took in here.items()
    }


def there(figures: Mapping[str, Any], machine: Mapping[str, Any], *names: str) -> dict[str, float]:
    """These figures, which are times, as they would be there."""
    return {name: round(figures[name] / machine["times_slower"], 3) for name in names}


def read(reader: list[str], events: int) -> dict[str, float]:
    """Let a client take in so many events, and tell what it used."""
    wire = [sys.executable, "-m", "tests.bench.wire", str(events)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(wire, **pipes) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        with subprocess.Popen([*reader, port, str(events)], **pipes) as client:
            assert client.stdout is not None
            if client.stdout.readline().strip() != "ready":
                server.kill()
                raise RuntimeError(f"{reader[-1]} did not connect")
            assert server.stdin is not None
            server.stdin.write("\n")
            server.stdin.flush()
            try:
                told, _ = client.communicate(timeout=_TAKES)
            except subprocess.TimeoutExpired as error:
                client.kill()
                raise RuntimeError(f"{reader} has not taken {events} events in {_TAKES:g} s") from error
            finally:
                server.kill()
        used: dict[str, float] = json.loads(told.splitlines()[-1])
        return used
