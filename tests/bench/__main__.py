"""`python -m tests.bench [--rows events,start] [--json FILE]`: benchmarks, one process each.

Without `--rows` those of the engine, with so few samples that they take some ten minutes; `--rows all` takes
half an hour. Each prints its figures as JSON, with what they are compared to in the same run; at the end
stands what they have to reach, and whether they do (`targets`). What they mean is in docs/performance.rst.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.targets import as_table, verdicts

_SIZES = ("1000", "10000", "100000", "1000000")
ROWS: dict[str, list[str]] = {
    "events": ["tests.bench.events"],
    "recording": ["tests.bench.recording"],
    "reaction-sqlite": ["tests.bench.reaction", "--database", "sqlite", "--polls", "1", "5"],
    "reaction-postgresql": ["tests.bench.reaction", "--database", "postgresql"],
    "growth-sqlite": ["tests.bench.reaction", "--database", "sqlite", "--growth", *_SIZES],
    "growth-postgresql": ["tests.bench.reaction", "--database", "postgresql", "--growth", *_SIZES],
    "throughput-sqlite": ["tests.bench.throughput", "--database", "sqlite"],
    "throughput-postgresql": ["tests.bench.throughput", "--database", "postgresql"],
    "engines": ["tests.bench.engines"],
    "board-sqlite": ["tests.bench.pages", "--board", "--database", "sqlite"],
    "board-postgresql": ["tests.bench.pages", "--board", "--database", "postgresql"],
    "pages-sqlite": ["tests.bench.pages", "--database", "sqlite"],
    "pages-postgresql": ["tests.bench.pages", "--database", "postgresql"],
    "start": ["tests.bench.start"],
}
"""What is measured, and the module that does it."""

SHORT: dict[str, list[str]] = {
    "events": [],
    "recording": [],
    "reaction-sqlite": ["--times", "180", "--polls"],
    "reaction-postgresql": ["--times", "180"],
    "growth-sqlite": ["--growth", _SIZES[0], _SIZES[-1]],
    "growth-postgresql": ["--growth", _SIZES[0], _SIZES[-1]],
    "throughput-sqlite": [],
    "throughput-postgresql": [],
    "engines": ["--recalls", "400"],
    "start": [],
}
"""What is measured unless rows are named, and what makes it shorter."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rows", help="names, separated by commas; `all` (default: fewer and shorter)")
    parser.add_argument("--json", type=Path, help="write all figures there, as one object")
    asked = parser.parse_args()
    names = list(ROWS) if asked.rows == "all" else (asked.rows or ",".join(SHORT)).split(",")
    if unknown := set(names) - ROWS.keys():
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    found: dict[str, Any] = {}
    failed = []
    for name in names:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *ROWS[name], *([] if asked.rows else SHORT[name])],
            stdout=subprocess.PIPE,
            text=True,
        )
        print(f"--- {name}, {time.monotonic() - began:.0f} s\n{done.stdout}", flush=True)
        if done.returncode:
            failed.append(name)
        else:
            found[name] = _objects(done.stdout)
    reached = verdicts(found)
    if asked.json:
        written = found | {"verdicts": [verdict._asdict() for verdict in reached]}
        asked.json.write_text(json.dumps(written, indent=2) + "\n")
    if reached:
        print(as_table(reached))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _objects(text: str) -> object:
    """The JSON objects in a text, one after the other; a list if there are several."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text := text.strip()):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return found[0] if len(found) == 1 else found


if __name__ == "__main__":
    raise SystemExit(main())
