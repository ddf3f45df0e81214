"""The quickest part of the fault suite (`make chaos`): engines are killed, callers are caught up with, and
damaged bytes are read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LIMIT = 60.0
"""Seconds, on a busy machine; together they take about 15."""


def counted(name: str, runs: int) -> dict[str, object]:
    """A row of the suite, in a process of its own as there: what it counted."""
    words = [sys.executable, "-W", "ignore", "-m", "tests.chaos", "--here", name]
    words += ["--runs", str(runs), "--seed", "7"]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=_LIMIT)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "runs"), [("kill", 1), ("catch-up", 3), ("fuzz", 1000)])
def test_nothing_is_lost_and_nobody_is_called_twice(name, runs):
    told = counted(name, runs)
    assert (told["lost"], told["doubled"], told["stuck"]) == (0, 0, 0), told["notes"]
    assert told["runs"] >= runs
    assert told["missed"] == told["recorded"]
