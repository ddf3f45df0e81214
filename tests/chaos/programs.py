"""The program as processes: started within milliseconds, signalled, killed, stopped."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent
from gevent.socket import wait_read

from tests.chaos.watched import Held, held

ROOT = Path(__file__).parents[2]


class Origin:
    """`tests.chaos.engine`: the process from which engines are forked."""

    def __init__(self) -> None:
        theirs, self._orders = os.pipe()
        self._answers, theirs_too = os.pipe()
        words = [sys.executable, "-m", "tests.chaos.engine"]
        self._process = subprocess.Popen(words, stdin=theirs, stdout=theirs_too, cwd=ROOT)
        os.close(theirs)
        os.close(theirs_too)

    def ask(self, **order: Any) -> int:
        """Carried out at once, within a few milliseconds, without a switch to another greenlet."""
        os.write(self._orders, json.dumps(order).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            some = os.read(self._answers, 100)
            if not some:
                raise RuntimeError("the process that engines are forked from has ended")
            answer += some
        return int(answer)


@functools.cache
def origin() -> Origin:
    """The one of this process; it ends with it."""
    return Origin()


class Program:
    """`freeswitch-callback run`."""

    def __init__(self, config: Path, lease: float, second_look: float) -> None:
        self.log = config.with_suffix(".log")
        self._start = {
            "words": ["--config", str(config), "run"], "log": str(self.log),
            "lease": lease, "second_look": second_look,
        }  # fmt: skip
        self._pidfd = -1
        self.pid: int | None = None
        origin()

    def start(self) -> None:
        assert self.pid is None, "it runs"
        self.pid = origin().ask(start=self._start)
        self._pidfd = os.pidfd_open(self.pid)  # nobody takes its end from it before we do

    def holds(self) -> Held:
        """Memory, descriptors and the like, now."""
        assert self.pid is not None
        return held(self.pid, self.log.with_suffix(".greenlets"))

    def signal(self, number: int) -> None:
        """At once, without a switch to another greenlet."""
        if self.pid is not None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Back when it is gone."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._end()

    def stop(self) -> int:
        """Its exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self._end()

    def _end(self) -> int:
        assert self.pid is not None
        wait_read(self._pidfd)
        pid, self.pid = self.pid, None
        os.close(self._pidfd)
        gevent.sleep(0.001)  # who it was connected to hears of it in the same moment
        return origin().ask(wait=pid)
