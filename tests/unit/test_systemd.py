"""What the service manager hears, on a socket as it opens one."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import socket
from structlog.testing import capture_logs

from freeswitch_callback.engine.systemd import Systemd


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request) -> Iterator[tuple[str, socket.socket]]:
    """Its NOTIFY_SOCKET and the socket behind."""
    with (
        tempfile.TemporaryDirectory() as folder,  # a path may have 107 bytes
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        name = f"{folder}/notify"
        listening.bind(name if request.param == "a file" else "\0" + name)
        listening.settimeout(5)
        yield name if request.param == "a file" else "@" + name, listening


def heard(listening: socket.socket) -> list[str]:
    return listening.recv(4096).decode().split("\n")


def test_it_is_told_by_datagrams(manager):
    name, listening = manager
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.ready()
    assert heard(listening) == ["READY=1"]
    systemd.status("two\nlines, made\tone ☎")
    assert heard(listening) == ["STATUS=two lines, made one ☎"]
    systemd.alive()
    assert heard(listening) == ["WATCHDOG=1"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    systemd.reloading()
    reloading, at = heard(listening)
    assert reloading == "RELOADING=1"
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    systemd.reloaded()
    assert heard(listening) == ["READY=1"]
    systemd.stopping()
    assert heard(listening) == ["STOPPING=1"]


def test_what_has_not_started_yet_has_not_reloaded_either(manager):
    name, listening = manager
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.reloading()
    systemd.reloaded()
    systemd.alive()
    assert heard(listening) == ["WATCHDOG=1"]


def test_without_systemd_nothing_is_said():
    systemd = Systemd({"WATCHDOG_USEC": "1000000"})
    systemd.ready()
    assert systemd.watchdog is None


def test_a_manager_who_is_gone_is_complained_of_once(tmp_path: Path):
    systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with capture_logs() as said:
        systemd.ready()
        systemd.alive()
    assert [(entry["event"], entry["what"]) for entry in said] == [("systemd_not_told", "READY=1")]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_it_watches_who_it_says_it_watches(said, seconds):
    assert Systemd({"NOTIFY_SOCKET": "@x"} | said).watchdog == seconds
