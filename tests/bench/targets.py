"""What the figures have to reach, and whether they did.

Where a time is not reached, what the same steps take without us in the same run is: up to `_FLOOR` times that
counts. `verdicts` takes what the rows printed, by their names; a row that was not measured has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_FLOOR = 1.25
_NOT_FALLING = 0.9
"""Of what one engine calls a second; the same run gives as much from one of its thirds to the next."""
_CONSTANT = 1.25


class Verdict(NamedTuple):
    """One line of the table. `met`: `yes`, `by its floor` or `no`; empty where nothing is `wanted`."""

    row: str
    what: str
    measured: str
    wanted: str
    met: str


def verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    judges = {
        "events": _events,
        "recording": _recording,
        "reaction": _reaction,
        "growth": _growth,
        "throughput": _throughput,
        "engines": _engines,
        "start": _start,
    }
    return [
        verdict
        for row, figures in found.items()
        for kind in [row.partition("-")[0]]
        if kind in judges
        for verdict in judges[kind](row, figures)
    ]


def as_table(lines: list[Verdict]) -> str:
    table = [Verdict("row", "what", "measured", "wanted", "met"), *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    )


def _most(row: str, what: str, figure: float, most: float, unit: str, floor: float | None = None) -> Verdict:
    """`floor`: how many times what it takes without us."""
    if figure <= most:
        met = "yes"
    else:
        met = "by its floor" if floor is not None and floor <= _FLOOR else "no"
    beside = "" if floor is None else f", {floor:.2f} x the same without us"
    return Verdict(row, what, f"{figure:.3g}{unit}{beside}", f"at most {most:g}{unit}", met)


def _least(row: str, what: str, figure: float, least: float, unit: str) -> Verdict:
    met = "yes" if figure >= least else "no"
    return Verdict(row, what, f"{round(figure, 2):g}{unit}", f"at least {least:g}{unit}", met)


def _events(row: str, figures: Mapping[str, Any]) -> Iterator[Verdict]:
    yield _most(row, "an event", figures["ours"]["us_per_event"], 5, " us", figures["ours_to_bare"])
    yield _least(row, "greenswitch takes", figures["greenswitch_to_ours"], 12, " x")
    yield _least(row, "Genesis takes", figures["genesis_to_ours"], 50, " x")
    yield _most(row, "memory, standing still", figures["standing"]["MB"], 80, " MB")


def _recording(row: str, figures: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for one in figures:
        database, of = one["database"], f" of {one['calls']}"
        what = f"{database}: on disk after the last was sent"
        yield _most(row, what, one["on_disk_after_the_last_was_sent"], 5, " s")
        late = f"{one['on_disk_after_the_storm_was_due']:.3g} s"
        yield Verdict(row, f"{database}: had nobody held the sender back", late, "", "")
        what = f"{database}: one by one, by the database alone"
        yield _most(row, what, one["one_by_one_ratio"], 2, " x")
        yield _least(row, f"{database}: on disk", one["on_disk"], one["calls"], of)


def _reaction(row: str, figures: Mapping[str, Any]) -> Iterator[Verdict]:
    for name, most in (("p50", 2), ("p99", 10)):
        yield _most(row, name, figures["reaction"][name], most, " ms", figures[f"ratio_{name}_same_steps"])


def _growth(row: str, figures: Mapping[str, Any]) -> Iterator[Verdict]:
    yield _most(row, "p50 of the most recalls, by the fewest", figures["growth_p50"], 1.5, " x")
    sizes = [figures[name]["memory_mb"] for name in figures if name.isdigit()]
    yield _most(row, "memory, as much", sizes[-1] / sizes[0], 1.1, " x")


def _throughput(row: str, figures: Mapping[str, Any]) -> Iterator[Verdict]:
    yield _least(row, "from claim to closed", figures["per_second"], 150, " a second")


def _engines(row: str, figures: Mapping[str, Any]) -> Iterator[Verdict]:
    runs = [run for kind in figures.values() for run in kind.values()]
    twice = sum(abs(run["dialled"] - run["recalls"]) for run in runs)
    yield _most(row, "calls too many or too few", twice, 0, "")
    talk = list(figures["agents_talk"].values())
    asked = [run["statements_per_recall"] for run in talk]
    yield _most(row, "statements a recall, many engines by one", asked[-1] / asked[0], _CONSTANT, " x")
    fewest = min(run["recalls_per_second"] for run in talk)
    what = "recalls a second, many engines by one"
    yield _least(row, what, fewest / talk[0]["recalls_per_second"], _NOT_FALLING, " x")


def _start(row: str, figures: Mapping[str, Any]) -> Iterator[Verdict]:
    for name, most in (("help", 0.25), ("list", 0.6), ("ready", 1.0)):
        yield _most(row, name, figures[name], most, " s")
