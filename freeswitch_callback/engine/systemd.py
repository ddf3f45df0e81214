"""What systemd is told of this service: the protocol of sd_notify(3), one datagram a message.

Written out here because it is this short; the packages for it are either a binding to a C library that would
have to be there, or as long as this and without RELOADING.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import structlog
from gevent import socket

log = structlog.get_logger(__name__)

_DEADLINE = 1.0
"""Seconds that a message may wait for room in systemd's socket."""


class Systemd:
    """The service manager, or nobody: without `NOTIFY_SOCKET` every message is dropped."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(environment) if address else None
        """Seconds of silence after which systemd kills this process; None if it does not watch."""
        self._ready = False
        self._told = True

    def ready(self) -> None:
        """The start, or a reload, is done."""
        self._ready = True
        self.say("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; say `reloaded` then."""
        if self._ready:
            self.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        if self._ready:  # or else it is still starting
            self.ready()

    def stopping(self) -> None:
        self._ready = False
        self.say("STOPPING=1")

    def alive(self) -> None:
        self.say("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.say("STATUS=" + " ".join(text.split()))

    def say(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_DEADLINE)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if self._told:  # once, not every other second
                log.warning("systemd_not_told", what=lines[0], error=str(error))
            self._told = False
        else:
            self._told = True


def _watchdog(environment: Mapping[str, str]) -> float | None:
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1e6
