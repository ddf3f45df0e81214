"""What a play is, what it gave, and the table of all."""

from __future__ import annotations

import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tests.live.centre import Centre

_WIDTHS = (48, 10, 60, 7)
"""Characters of the table's columns, at most."""


@dataclass(frozen=True)
class Play:
    """`what` happens, as a person would tell it; `run` gives what was seen, and raises if that is wrong."""

    what: str
    run: Callable[[Centre], str]


@dataclass(frozen=True)
class Result:
    what: str
    database: str
    seen: str
    seconds: float
    kept: bool

    def line(self) -> str:
        return (
            f"{'ok    ' if self.kept else 'FAILED'} {self.seconds:5.1f} s  {self.what}, {self.database}: "
            f"{self.seen}"
        )


def table(results: Sequence[Result]) -> str:
    """Of all plays: what happened, on which database, what came of it, and the seconds that it took."""
    rows = [
        (one.what, one.database, one.seen if one.kept else f"FAILED: {one.seen}", f"{one.seconds:.1f}")
        for one in results
    ]
    rows.insert(0, ("play", "database", "what came of it", "seconds"))
    widths = [min(most, max(len(row[column]) for row in rows)) for column, most in enumerate(_WIDTHS)]
    lines = []
    for row in [rows[0], ["-" * width for width in widths], *rows[1:]]:
        cells = [textwrap.wrap(text, width) or [""] for text, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            lines.append("  ".join(map(str.ljust, parts, widths)).rstrip())
    return "\n".join(lines)


def play(one: Play, centre: Centre, *, alone: bool = False) -> Result:
    """Run it; whatever it raises is a failure, and told. `alone`: nothing of what others left disturbs it."""
    began = time.monotonic()
    try:
        if alone:
            centre.clear()
        seen, kept = one.run(centre), True
    except Exception as error:  # noqa: BLE001 - the others shall be played too
        seen, kept = f"{type(error).__name__}: {error}", False
        if not isinstance(error, AssertionError):
            traceback.print_exc()
    result = Result(one.what, centre.database, seen, time.monotonic() - began, kept)
    print(result.line(), flush=True)
    return result


def expect(seen: dict[str, object], **wanted: object) -> str:
    """What was wanted, as text; AssertionError names what is otherwise. A tuple: one of these."""
    wrong = {
        name: seen[name]
        for name, value in wanted.items()
        if not (seen[name] in value if isinstance(value, tuple) else seen[name] == value)
    }
    assert not wrong, f"wanted {wanted}, and there is {wrong}"
    return ", ".join(str(seen[name]) for name in wanted)
