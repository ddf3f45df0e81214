"""How long people wait for the program: `--help`, `list` on many rows, and the daemon until it is ready.

Beside it, in the same run: what the interpreter itself takes, and with gevent's patches, which come first.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from gevent import monkey

from tests.bench import machine
from tests.bench.contact_centre import ContactCentre, database, fill

TIMES = 7
PROGRAM = [sys.executable, "-m", "freeswitch_callback"]


def run(rows: int = 100_000) -> dict[str, Any]:
    """Seconds, the median of several runs."""
    python = [sys.executable, "-c"]
    with database("sqlite") as url:
        fill(url, rows, queues=20)
        path = Path(url.removeprefix("sqlite://")).with_name("config.toml")
        centre = ContactCentre(10, 2, 0.0)
        try:
            address = centre.address
            path.write_text(
                f'database.url = "{url}"\nrecall.caller_id_number = "+12025559999"\n'
                f'freeswitch = [{{ name = "fs1", port = {address.port}, password = "{address.password}" }}]\n'
            )
            config = ["--config", str(path)]
            speeds = [machine.speed()]
            took = {
                "python": _median(lambda: _takes([*python, "pass"])),
                "patched": _median(
                    lambda: _takes([*python, "from gevent import monkey; monkey.patch_all()"])
                ),
                "help": _median(lambda: _takes([*PROGRAM, "--help"])),
                "list": _median(lambda: _takes([*PROGRAM, *config, "list"])),
                "ready": _median(lambda: _until_ready([*PROGRAM, *config, "run"])),
            }
            here = machine.times_slower([*speeds, machine.speed()])
            return {"rows": rows, **took, "machine": here, "there": machine.there(took, here, *took)}
        finally:
            centre.close()


def _median(seconds: Callable[[], float]) -> float:
    return round(statistics.median(seconds() for _ in range(TIMES)), 3)


def _takes(words: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def _until_ready(words: list[str]) -> float:
    """Until it tells systemd so."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notify:
        notify.bind(f"\0callback-bench-{os.getpid()}")
        notify.settimeout(30.0)
        environment = os.environ | {"NOTIFY_SOCKET": f"@callback-bench-{os.getpid()}"}
        began = time.monotonic()
        with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as engine:
            while b"READY=1" not in notify.recv(4096):
                pass
            took = time.monotonic() - began
            engine.terminate()
        return took


if __name__ == "__main__":
    monkey.patch_all()
    print(json.dumps(run(), indent=2))
