"""An engine as a process of its own, with short leases.

`python -m tests.chaos.engine LEASE SECOND_LOOK --config FILE run`.
What is shortened are times that no configuration names; all else is the program that runs in production.
"""

import ctypes
import signal
import sys
from dataclasses import replace

from freeswitch_callback import __main__ as program  # patches first
from freeswitch_callback.cli import service
from freeswitch_callback.config import Configuration
from freeswitch_callback.engine import daemon
from freeswitch_callback.engine.daemon import EngineRules

_PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # none outlives the row that started it
    lease, second_look = float(sys.argv.pop(1)), float(sys.argv.pop(1))
    daemon._RECONCILE_EVERY = second_look  # seconds
    configured = service.engine_rules

    def shortened(configuration: Configuration) -> EngineRules:
        return replace(configured(configuration), lease=lease, second_look=second_look, settle=0.2)

    service.engine_rules = shortened
    program.main()


if __name__ == "__main__":
    main()
