"""What a play is, what it gave, and the table of all."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.live.centre import Centre


@dataclass(frozen=True)
class Play:
    """`what` happens, as a person would tell it; `run` gives what was seen, and raises if that is wrong."""

    what: str
    run: Callable[[Centre], str]


@dataclass(frozen=True)
class Result:
    what: str
    seen: str
    seconds: float
    kept: bool

    def line(self) -> str:
        return f"{'ok    ' if self.kept else 'FAILED'} {self.seconds:5.1f} s  {self.what}: {self.seen}"


def play(one: Play, centre: Centre) -> Result:
    """Run it; whatever it raises is a failure, and told."""
    began = time.monotonic()
    try:
        seen, kept = one.run(centre), True
    except Exception as error:  # noqa: BLE001 - the others shall be played too
        seen, kept = f"{type(error).__name__}: {error}", False
        if not isinstance(error, AssertionError):
            traceback.print_exc()
    result = Result(one.what, seen, time.monotonic() - began, kept)
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
