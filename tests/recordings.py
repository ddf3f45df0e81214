"""The recordings of a running FreeSWITCH, as the events and CDRs that the engine would see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from freeswitch_callback.esl.frames import Event, Framer

DATA = Path(__file__).parent / "data"
NAMES = tuple(sorted(path.stem for path in (DATA / "captures").glob("*.jsonl")))
CDRS = tuple(sorted(path.name.removesuffix(".cdr.json") for path in (DATA / "json_cdr").glob("*.cdr.json")))


def frames(name: str) -> Iterator[dict[str, Any]]:
    with (DATA / "captures" / f"{name}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def received(name: str) -> bytes:
    """All that FreeSWITCH sent in this story."""
    return "".join(frame["data"] for frame in frames(name) if frame["dir"] == "recv").encode()


def events(name: str) -> list[Event]:
    framer = Framer()
    framer.feed(received(name))
    return [frame for frame in framer.frames() if isinstance(frame, Event)]


def sent(name: str) -> list[str]:
    return [frame["data"] for frame in frames(name) if frame["dir"] == "send"]


def cdr(name: str) -> dict[str, Any]:
    return json.loads((DATA / "json_cdr" / f"{name}.cdr.json").read_text("utf-8"))
