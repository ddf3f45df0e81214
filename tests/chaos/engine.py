"""Engines as processes of their own, with short leases, forked from one that has imported everything.

What is shortened are times that no configuration names; all else is the program that runs in production.
Before it forks, this process has run nothing of it: there is no hub, no thread, no connection; Python itself
seeds `random` anew in each fork.

It is given orders on standard input, one a line, as JSON, and answers each with a line:
`{"start": {"words": […], "log": …, "lease": …, "second_look": …}}` with the engine's process id, and
`{"wait": pid}` with its exit status, negative if a signal ended it.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original

from freeswitch_callback import __main__ as program  # patches first
from freeswitch_callback.cli import service
from freeswitch_callback.config import Configuration
from freeswitch_callback.core import gates
from freeswitch_callback.engine import daemon
from freeswitch_callback.engine.daemon import EngineRules
from freeswitch_callback.ledger import leases, postgresql, sqlite  # noqa: F401 - imported late elsewhere
from tests.chaos import watched

_PR_SET_PDEATHSIG = 1
_UNSETTLED_HOLD = 3.0
"""Seconds instead of a minute that a call is held for its last event, lost where an engine is killed."""
_fork, _waitpid = get_original("os", ["fork", "waitpid"])  # gevent's would start its hub


def main() -> None:
    _die_with_the_parent()
    gc.collect()
    gc.freeze()  # else each engine's first collection copies all of it
    order = _carry_out_orders()
    if order is not None:
        _become_an_engine(**order)


def _die_with_the_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # none outlives the row that started it


def _carry_out_orders() -> dict[str, Any] | None:
    """In each fork, what it was ordered to be; in the process they come from, None at the end of all."""
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if "start" in order:
            assert get_hub_if_exists() is None, "gevent's hub was started before the fork"
            assert threading.active_count() == 1, threading.enumerate()
            answer = _fork()
            if answer == 0:
                return dict(order["start"])
        else:
            _, status = _waitpid(order["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        os.write(1, b"%d\n" % answer)
    return None


def _become_an_engine(words: list[str], log: str, lease: float, second_look: float) -> None:
    _die_with_the_parent()
    nothing = os.open(os.devnull, os.O_RDONLY)
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for at, to in enumerate((nothing, told, told)):
        os.dup2(to, at)
    os.close(nothing)
    os.close(told)
    sys.argv = ["freeswitch-callback", *words]
    daemon._RECONCILE_EVERY = second_look  # seconds
    gates.UNSETTLED_HOLD = _UNSETTLED_HOLD
    leases._SEEN_TO = second_look
    configured = service.engine_rules

    def shortened(configuration: Configuration) -> EngineRules:
        return replace(configured(configuration), lease=lease, second_look=second_look, settle=0.2)

    service.engine_rules = shortened
    watched.tell_on_signal(Path(log).with_suffix(".greenlets"))
    program.main()


if __name__ == "__main__":
    main()
