"""`python -m tests.chaos [--rows kill,steps] [--short] [--seed N] [--lasts S] [--table FILE]`."""

from gevent import monkey

if __name__ == "__main__":
    import sys

    if "--here" in sys.argv:  # a row: its simulator is greenlets; who starts rows has threads
        monkey.patch_all()

import argparse
from pathlib import Path

from tests.chaos import suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rows", help="names, separated by commas (default: all)")
    parser.add_argument("--short", action="store_true", help="fewer runs, under 10 minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, help="so many runs of each row, whatever its own number is")
    parser.add_argument("--lasts", type=float, help="so many seconds the row `load` has its load for")
    parser.add_argument("--table", type=Path, help="write the results there, as reStructuredText")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    _find_rows()
    if asked.here:
        suite.run_here(asked.here, asked.seed, asked.short, asked.runs, asked.lasts)
        return 0
    names = asked.rows.split(",") if asked.rows else list(suite.ROWS)
    if unknown := set(names) - suite.ROWS.keys():
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(suite.ROWS)}")
    results = suite.run_all(names, asked.seed, asked.short, asked.runs, asked.lasts)
    if asked.table:
        asked.table.write_text(suite.table(results))
    failed = [result.row.name for result in results if result.verdict != "ok"]
    print(f"seed {asked.seed}: " + (f"FAILED: {', '.join(failed)}" if failed else "every promise was kept"))
    return 1 if failed else 0


def _find_rows() -> None:
    """Importing a module of rows makes them known."""
    import importlib

    for path in sorted(Path(__file__).parent.glob("rows_*.py")):
        importlib.import_module(f"tests.chaos.{path.stem}")


if __name__ == "__main__":
    raise SystemExit(main())
