"""What a process holds: memory, descriptors, threads, and, if it is an engine of the suite, greenlets."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent

_ASKS = signal.SIGUSR2


def tell_on_signal(path: Path) -> None:
    """From now on, SIGUSR2 has this process write there how many greenlets it has, for `held` to read.

    The program's caches are emptied then: each has a bound, to which they grow for hours by themselves."""
    signal.signal(_ASKS, lambda *_: _tell(path))


def _tell(path: Path) -> None:
    for cache in _caches():
        cache.cache_clear()
    alive = sum(isinstance(one, gevent.Greenlet) and not one.dead for one in gc.get_objects())
    unfinished = path.with_suffix(".part")
    unfinished.write_text(str(alive))
    unfinished.rename(path)


@functools.cache
def _caches() -> list[Any]:
    ours = [module for name, module in sys.modules.items() if name.startswith("freeswitch_callback.")]
    return [
        value
        for module in ours
        for value in vars(module).values()
        if isinstance(value, functools._lru_cache_wrapper) and value.cache_info().maxsize is not None
    ]


@dataclass(frozen=True)
class Held:
    """`memory`: kB, of the process alone."""

    memory: int
    descriptors: int
    threads: int
    greenlets: int


def held(pid: int, path: Path, timeout: float = 10.0) -> Held:
    """What a process holds now that tells of its greenlets there. Raises `TimeoutError` if it does not."""
    os.kill(pid, _ASKS)
    with gevent.Timeout(timeout, TimeoutError(f"{pid} does not tell of its greenlets")):
        while not path.exists():
            gevent.sleep(0.01)
    greenlets = int(path.read_text())
    path.unlink()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Held(
        memory=int(status["RssAnon"].split()[0]),
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(status["Threads"]),
        greenlets=greenlets,
    )
