"""What an event costs: the same bytes through a socket into our client, stock greenswitch and Genesis.

Beside them the floor, `bare`: a reader that cuts frames, checks nothing and parses nothing.

CPU of the client's process alone, per event: how fast they come does not matter. Genesis has an environment
of its own (`GENESIS`, made when it is not there); without the network it is left out, and said so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GENESIS = ROOT / "build" / "genesis"
GENESIS_RELEASE = "genesis>=1.0"
_TAKES = 120.0
"""Seconds after which a client hangs."""


def run(events: int = 40_000) -> dict[str, Any]:
    """Of each client: microseconds of CPU per event, events per second, MB; and how many times ours that is.
    A slow one gets fewer events."""
    found: dict[str, Any] = {"events": events}
    counts = {"ours": events, "bare": events, "daemon": events, "greenswitch": events // 2}
    for which, count in counts.items():
        words = [sys.executable, "-m", "tests.bench.readers", which]
        found[which] = _figures(_read(words, count), count)
    found["standing"] = {
        "MB": _read([sys.executable, "-m", "tests.bench.readers", "standing"], 100_000)["kB"] / 1024
    }
    python = _genesis()
    if python is None:
        found["genesis"] = None
    else:
        words = [str(python), str(Path(__file__).with_name("genesis_reader.py"))]
        found["genesis"] = _figures(_read(words, events // 8), events // 8)
    for other in ("greenswitch", "genesis"):
        if found[other]:
            found[f"{other}_to_ours"] = found[other]["us_per_event"] / found["ours"]["us_per_event"]
    found["ours_to_bare"] = found["ours"]["us_per_event"] / found["bare"]["us_per_event"]
    return found


def _figures(used: dict[str, float], events: int) -> dict[str, float]:
    return {
        "us_per_event": used["cpu"] / events * 1e6,
        "events_per_second": events / used["seconds"],
        "MB": used["kB"] / 1024,
    }


def _read(reader: list[str], events: int) -> dict[str, float]:
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
