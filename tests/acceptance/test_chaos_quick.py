"""The quickest part of the fault suite (`make chaos`): an engine is killed, or stopped, under load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def counted(name: str, runs: int) -> dict[str, object]:
    """A row of the suite, in a process of its own as there: what it counted."""
    words = [sys.executable, "-m", "tests.chaos", "--here", name, "--runs", str(runs), "--seed", "7"]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "runs"), [("kill", 1), ("stopped", 1)])
def test_nothing_is_lost_and_nobody_is_called_twice_when_an_engine_is(name, runs):
    told = counted(name, runs)
    assert (told["lost"], told["doubled"], told["stuck"], told["runs"]) == (0, 0, 0, runs), told["notes"]
    assert told["missed"] == told["recorded"]
