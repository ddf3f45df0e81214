"""What a row of the fault suite is, and how rows are run: side by side, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

SIDE_BY_SIDE = 6
"""So many rows at once, of those that mostly wait; and beside them one at a time of those that do not."""
COLUMNS = ("runs", "missed", "recorded", "lost", "dialled", "doubled", "stuck")


@dataclass
class Counts:
    """What a row saw, counted at FreeSWITCH and in the database.

    `missed`: callers whom nobody served; `recorded`: those of them with a row of their own; `lost`: those
    without. `dialled`: how often a client was dialled; `doubled`: how often while an earlier call to the same
    client was up, or after they were reached, how many calls have two rows or were not missed at all, and how
    often an agent was rung while in another call.
    `stuck`: recalls that came to no end, agents left Reserved, reservations left on record.
    """

    runs: int = 0
    missed: int = 0
    recorded: int = 0
    lost: int = 0
    dialled: int = 0
    doubled: int = 0
    stuck: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        for name in COLUMNS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.notes += other.notes

    @property
    def kept(self) -> bool:
        """Whether the promise was."""
        return self.runs > 0 and not (self.lost or self.doubled or self.stuck)


@dataclass(frozen=True)
class Given:
    """What a row is given: how many runs, chance that repeats with its seed, a folder to work in, and
    how many seconds of load, unless it is the row that knows."""

    runs: int
    random: Random
    folder: Path
    short: bool
    lasts: float | None = None


@dataclass(frozen=True)
class Row:
    """`promise`: what it shows, as the documentation says it. `full` and `short`: how many runs.

    `limit`: seconds after which it has failed. `busy`: it keeps a core busy, and gives way to those that
    mostly wait, and are about time.
    """

    name: str
    fault: str
    promise: str
    full: int
    short: int
    run: Callable[[Given], Counts]
    limit: float
    busy: bool

    def runs(self, short: bool) -> int:
        return self.short if short else self.full


ROWS: dict[str, Row] = {}


def row(
    name: str,
    fault: str,
    promise: str,
    *,
    full: int,
    short: int,
    limit: float = 1200.0,
    busy: bool = False,
) -> Callable[[Callable[[Given], Counts]], Callable[[Given], Counts]]:
    """Makes a function a row of the suite."""

    def known(run: Callable[[Given], Counts]) -> Callable[[Given], Counts]:
        ROWS[name] = Row(name, fault, promise, full, short, run, limit, busy)
        return run

    return known


@dataclass
class Result:
    row: Row
    counts: Counts
    seconds: float
    trouble: str = ""

    @property
    def verdict(self) -> str:
        return "ok" if self.counts.kept and not self.trouble else "FAILED"

    def line(self) -> str:
        counted = "  ".join(f"{name} {getattr(self.counts, name)}" for name in COLUMNS)
        return f"{self.row.name:<18} {counted}  {self.seconds:.0f} s  {self.verdict}"


def run_here(name: str, seed: int, short: bool, runs: int | None, lasts: float | None) -> None:
    """Run one row in this process; its counts go to standard output, as JSON."""
    chosen = ROWS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{name}-"))
    given = Given(runs or chosen.runs(short), Random(f"{seed} {name}"), folder, short, lasts)
    counts = chosen.run(given)
    if counts.kept:  # else somebody will want to see what is in there
        shutil.rmtree(folder)
    print(json.dumps(asdict(counts)), flush=True)


def run_all(
    names: Iterable[str], seed: int, short: bool, runs: int | None, lasts: float | None
) -> list[Result]:
    """Run rows side by side, those first that may take longest; each prints its line when it is over."""

    def one(chosen: Row) -> Result:
        words = [sys.executable, "-m", "tests.chaos", "--here", chosen.name, "--seed", str(seed)]
        words += ["--short"] * short + (["--runs", str(runs)] if runs else [])
        words += ["--lasts", str(lasts)] if lasts else []
        if chosen.busy:
            words = ["nice", *words]
        started, limit = time.monotonic(), chosen.limit + (lasts or 0.0)
        try:
            done = subprocess.run(words, stdout=subprocess.PIPE, timeout=limit, text=True)
            told = done.stdout.splitlines()[-1:]
            trouble = f"exit status {done.returncode}" if done.returncode or not told else ""
        except subprocess.TimeoutExpired:
            told, trouble = [], f"not over in {limit:.0f} s"
        counts = Counts() if trouble else Counts(**json.loads(told[0]))
        result = Result(chosen, counts, time.monotonic() - started, trouble)
        print("\n    ".join([result.line(), *filter(None, [trouble]), *counts.notes[:20]]), flush=True)
        return result

    chosen = sorted((ROWS[name] for name in names), key=lambda one: -one.limit)
    with ThreadPoolExecutor(1) as busy, ThreadPoolExecutor(SIDE_BY_SIDE) as waiting:
        return [done.result() for done in [(busy if r.busy else waiting).submit(one, r) for r in chosen]]


def table(results: list[Result]) -> str:
    """The results as a table in reStructuredText."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        *_cells("Fault", *(name.capitalize() for name in COLUMNS), "Promise"),
    ]
    for result in results:
        counted = [f"{getattr(result.counts, name):,}" for name in COLUMNS]
        kept = result.row.promise if result.verdict == "ok" else f"**not kept**: {result.row.promise}"
        lines += _cells(result.row.fault, *counted, kept)
    return "\n".join(lines) + "\n"


def _cells(*texts: str) -> list[str]:
    return [("   * - " if at == 0 else "     - ") + text for at, text in enumerate(texts)]
