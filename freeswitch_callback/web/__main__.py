"""`python -m freeswitch_callback.web FD`: the process that serves an engine's pages; started by that engine.

FD is the socket that it was handed. Ctrl-C and SIGHUP in a terminal are the engine's, which tells.
"""

import signal

for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

from freeswitch_callback.patches import patch  # noqa: E402

patch()

import sys  # noqa: E402

from freeswitch_callback.web.serve import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
