"""What an engine has done since it was started, as counts: cheap enough to be kept for every event."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

MOST_QUEUES = 1000
"""Of more than so many only the sum is kept: a figure for each must not fill the memory."""
OTHER = "other"

REACTION = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TIME_TO_RECALL = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0)


class Histogram:
    """How many values there were up to each of `bounds`, and the sum of all; in seconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        seconds = max(0.0, seconds)  # clocks differ by a little
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Each bound, the last of which is +Inf, and how many values are not above it."""
        total = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            yield ("+Inf" if bound is None else str(bound)), total


class Figures:
    """`events` by node; `missed` by queue and reason, each call once; `closed` by what recalls were closed
    as, `outcomes` of attempts, by this engine. `time_to_recall`: from when a client first called to
    the conversation; `reaction`: from when a recall was due and its agent free to the originate."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.missed: Counter[tuple[str, str]] = Counter()
        self.closed: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.time_to_recall = Histogram(TIME_TO_RECALL)
        self.reaction = Histogram(REACTION)
        self._queues: set[str] = set()

    def count_missed(self, queue: str | None, reason: str) -> None:
        name = queue or ""
        if name not in self._queues:
            if len(self._queues) >= MOST_QUEUES:
                name = OTHER
            self._queues.add(name)
        self.missed[name, reason] += 1
