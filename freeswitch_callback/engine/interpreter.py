"""How Python is set in a process where calls are made: it stands still for nothing else."""

import gc
import sys

import gevent

_TURN = 0.0005
"""Seconds after which a thread that has work gets its turn; Python's own value is ten times as much."""


def do_not_stand_still() -> None:
    """To be called once all modules are there.

    They stay as long as the process, and the collector of garbage does not look at them again. Now and then
    it looks at everything: that stops all greenlets, for 20 ms with the engine's modules among it and for
    70 ms with a web server's, and hardly at all for what has come since.

    A thread in a transaction has the lock of an SQLite file, and an agent waits for it: it does not wait
    behind all the events of a moment.

    And a greenlet does not note who began it, and from where: to note it takes as long as to begin one.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_TURN)
    gevent.config.track_greenlet_tree = False
