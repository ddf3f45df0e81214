"""Hypothesis looks for bytes, and ways to cut them in pieces, that the client cannot bear."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import hypothesis
from hypothesis import HealthCheck, strategies

from freeswitch_callback.errors import ProtocolError
from freeswitch_callback.esl.frames import Event, Frame, Framer

_LINES = (
    b"\n", b"\n\n", b"Content-Type: text/event-plain\n", b"Content-Type: command/reply\n",
    b"Content-Type: api/response\n", b"Content-Type: text/disconnect-notice\n", b"Reply-Text: +OK\n",
    b"Content-Length: 0\n", b"Content-Length: 22\n", b"Content-Length: 5\nContent-Length: 6\n",
    b"Content-Length: 9999999999999\n", b"Content-Length: 44\nContent-Type: text/event-plain\n\n",
    b"Event-Name: HEARTBEAT\n", b"Event-Name: CUSTOM\n", b"Event-Subclass: callcenter%3A%3Ainfo\n",
    b"Event-Date-Timestamp: 1795378680000000\n", b"Caller-Caller-ID-Number: %0AEvent-Name: X\n", b": \n",
)  # fmt: skip
_NAMES = ("Event-Name", "Event-Subclass", "Event-Sequence", "Caller-Caller-ID-Number", "Content-Length", "")


def survived(examples: int, seed: int, frames: Sequence[bytes]) -> None:
    """Raises what was found, with the smallest example of it. `frames`: some as FreeSWITCH sends them."""
    piece = strategies.one_of(
        strategies.sampled_from(_LINES), strategies.sampled_from(frames), strategies.binary(max_size=60)
    )
    streams = strategies.lists(piece, max_size=12).map(b"".join)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @hypothesis.given(streams, strategies.lists(strategies.floats(0, 1), max_size=20))
    def told_alike(stream: bytes, cuts: list[float]) -> None:
        ends = sorted({int(cut * len(stream)) for cut in cuts} | {0, len(stream)})
        whole, wrong = _told([stream])
        pieces, also_wrong = _told([stream[start:end] for start, end in pairwise(ends)])
        assert list(map(_raw, pieces)) == list(map(_raw, whole))
        assert also_wrong == wrong
        for frame in (*whole, *pieces):
            _read(frame)

    told_alike()


def _told(pieces: Sequence[bytes]) -> tuple[list[Frame | Event], bool]:
    """The frames, and whether the stream stopped making sense behind them."""
    framer = Framer()
    frames: list[Frame | Event] = []
    try:
        for piece in pieces:
            framer.feed(piece)
            frames.extend(framer.frames())
    except ProtocolError:
        return frames, True
    return frames, False


def _raw(frame: Frame | Event) -> object:
    return frame.raw if isinstance(frame, Event) else frame


def _read(frame: Frame | Event) -> None:
    if isinstance(frame, Frame):
        assert isinstance(frame.reply, str)
    try:
        # An event alone, and one among others, whose bytes it must not read.
        event = frame if isinstance(frame, Event) else Event(frame.body)
        pairs = list(event.items())
        for name in (*_NAMES, *(name for name, _ in pairs)):
            assert isinstance(event.get(name, ""), str)
        assert pairs == list(Event(event.raw).items())
        event.timestamp, event.body  # noqa: B018 - read for what they raise
    except ProtocolError:
        pass
