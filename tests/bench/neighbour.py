"""A process that takes as much of a processor as another one did, and does nothing with it: what any
neighbour costs the calls of a machine that has only so many processors.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent

from freeswitch_callback.operations.accounts import right_password
from freeswitch_callback.web.serve import calls_go_first

_BURST, _REST = 0.003, 0.005
"""Seconds; who is told of a change works for a few milliseconds."""
_MEMORY = 500_000
"""Bytes that a burst goes through, as rendering a page does."""


@contextmanager
def neighbour(share: float, *, passwords: float = 0.0, humble: bool = False) -> Iterator[None]:
    """One that takes this share of one processor, the passwords included, which are looked at so many times a
    second; as `humble` as the pages are."""
    words = [sys.executable, "-W", "ignore", "-m", "tests.bench.neighbour", str(share), str(passwords)]
    with subprocess.Popen(
        [*words, *(["humble"] if humble else [])], cwd=Path(__file__).parents[2]
    ) as process:
        try:
            gevent.sleep(2.0)  # it has begun
            yield
        finally:
            process.kill()


def _look_at_passwords(per_second: float) -> None:
    while True:
        began = time.monotonic()
        right_password(None, "correct horse battery")
        time.sleep(max(0.0, 1 / per_second - (time.monotonic() - began)))


def _work(memory: bytearray) -> None:
    ends = time.thread_time() + _BURST
    at = 0
    while time.thread_time() < ends:
        memory[at : at + 4096] = bytes(4096)
        at = (at + 4096) % _MEMORY


def main(share: float, passwords: float, *, humble: bool) -> None:
    if humble:
        calls_go_first()
    if passwords:
        threading.Thread(target=_look_at_passwords, args=[passwords], daemon=True).start()
    memory = bytearray(_MEMORY + 4096)
    began, spent = time.monotonic(), time.process_time()
    while True:
        if time.process_time() - spent < share * (time.monotonic() - began):
            _work(memory)
        time.sleep(_REST)


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), humble="humble" in sys.argv)
