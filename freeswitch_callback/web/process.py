"""The process that serves the pages, as the engine's sees it: started, watched, and started again.

It is a program of its own (`python -m freeswitch_callback.web`), not a fork: a copy of a process that has a
hub, threads and connections would share them. What it has to know goes through a pair of sockets; its command
line names the one that it was handed, and no secret.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, TimeoutExpired

import gevent
import structlog
from gevent import socket
from gevent.subprocess import Popen

import freeswitch_callback
from freeswitch_callback.engine.alarms import Name
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.errors import CallbackError, ConfigurationError
from freeswitch_callback.web.changes import Changes
from freeswitch_callback.web.inside import Inside
from freeswitch_callback.web.messages import Failed, Start
from freeswitch_callback.web.pipe import Pipe
from freeswitch_callback.web.site import Settings
from freeswitch_callback.web.teller import Teller

log = structlog.get_logger(__name__)

STARTED_WITHIN = 60.0
"""Seconds, on a machine that has much else to do."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before it is started again; each time twice as long."""
_LASTED = 60.0
"""Seconds after which a start counts as one that went well."""

SILENT_AFTER, HANGS_AFTER = 10.0, 60.0
"""Seconds for which news are not taken: then somebody has to know; then it is killed, and started again."""

_TURN = 1.0
_ENDS_WITHIN = 3.0
"""Seconds for what it still says to those who are connected."""


class PagesProcess:
    """`start` it; `close` it. `settings` may be replaced meanwhile, and reach it."""

    def __init__(
        self,
        engine: Engine,
        database: str,
        password: str | None,
        settings: Settings,
        listen: tuple[str, int],
        *,
        certificate: str | None = None,
        key: str | None = None,
        log_level: str = "warning",
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._live = Inside(engine)
        self._listen = listen
        self._start = Start(
            database, password, listen, certificate, key, log_level,
            engine.name, os.getpid(), tuple(self._live.nodes),
        )  # fmt: skip
        self._child: Popen | None = None
        self._pipe: Pipe | None = None
        self._teller: Teller | None = None
        self._telling: gevent.Greenlet | None = None
        self._watching: gevent.Greenlet | None = None

    @property
    def address(self) -> str:
        """Where it serves."""
        scheme = "https" if self._start.certificate else "http"
        return f"{scheme}://{self._listen[0]}:{self._listen[1]}"

    @property
    def pid(self) -> int:
        """0 while it is away."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        """Returns when it serves. Raises `ConfigurationError` where it cannot listen as it is told to, and
        `CallbackError` where something else keeps it from it."""
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        self._watching = gevent.spawn(self._watch)

    def close(self) -> None:
        if self._watching is not None:
            self._watching.kill()
        self._end()
        self._engine.alarms.clear(Name.PAGES_AWAY, self.address)

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        self._pipe = pipe = Pipe(ours)
        with theirs:
            self._child = Popen(
                [sys.executable, "-P", "-m", "freeswitch_callback.web", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=DEVNULL,
                stdout=DEVNULL,
                env=_environment(),
            )
        changes = Changes(self._live, lambda: self._engine.rules, lambda: self.settings)
        self._teller = teller = Teller(pipe, self._live, changes)
        try:
            pipe.send(self._start)
        except OSError:
            pass  # it has ended already
        self._telling = gevent.spawn(teller.run)
        waited_for = (teller.started, self._telling, self._engine.stopping)
        gevent.wait(waited_for, count=1, timeout=STARTED_WITHIN)
        if teller.started.ready():
            said = teller.started.get()
            if isinstance(said, Failed):
                raise ConfigurationError(said.text)
            self._listen = said.host, said.port
            self._start = replace(self._start, listen=self._listen)  # who has a page open comes back to it
            return
        if not self._engine.stopping.is_set():
            raise CallbackError(f"the process that serves the pages does not start: {self._how_it_ended()}")

    def _watch(self) -> None:
        """Keeps it there until the engine stops."""
        stopping, alarms, clock = self._engine.stopping, self._engine.alarms, self._engine.clock
        pause = FIRST_PAUSE
        while True:
            began = clock.monotonic()
            why = self._until_it_ends()
            self._end()
            if clock.monotonic() - began >= _LASTED:
                pause = FIRST_PAUSE
            while not clock.wait(stopping, min(pause, 0.1)):  # who stops us may have stopped it too
                alarms.raise_(Name.PAGES_AWAY, self.address, why)
                if clock.wait(stopping, pause):
                    return
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    self._begin()
                except (CallbackError, OSError) as error:
                    why = str(error)
                    self._end()
                else:
                    alarms.clear(Name.PAGES_AWAY, self.address)
                    break
            else:
                return

    def _until_it_ends(self) -> str:
        """Why it did. Turns are counted, not time: whoever stood still cannot say of others that they did."""
        assert self._teller is not None
        assert self._telling is not None
        alarms, silent = self._engine.alarms, 0.0
        while True:
            self._telling.join(_TURN)
            if self._telling.ready():
                return self._how_it_ended()
            silent = silent + _TURN if self._teller.waits else 0.0
            if silent >= HANGS_AFTER:
                return f"took nothing in for {silent:.0f} s and was killed"
            if silent >= SILENT_AFTER:
                alarms.raise_(Name.PAGES_AWAY, self.address, "takes nothing in")
            else:
                alarms.clear(Name.PAGES_AWAY, self.address)

    def _how_it_ended(self) -> str:
        assert self._child is not None
        try:
            status = self._child.wait(timeout=_TURN)
        except TimeoutExpired:
            return "said nothing, and was killed"
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def _end(self) -> None:
        """It says goodbye when its pipe ends."""
        if self._pipe is not None:
            self._pipe.close()
        if self._telling is not None:
            self._telling.kill()
        if self._child is not None:
            try:
                self._child.wait(timeout=_ENDS_WITHIN)
            except TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._pipe, self._telling, self._teller, self._child = None, None, None, None


def _environment() -> dict[str, str]:
    """Ours, without what systemd means for us alone; with where this program is, if it is not installed."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_SYSTEMD}
    root = str(Path(freeswitch_callback.__file__).parents[1])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return environment


_OF_SYSTEMD = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
