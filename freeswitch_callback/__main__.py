"""The program's entry: gevent's patches come before a command, and with it anything that opens a socket, is
imported. `--help` needs none, and took three times as long with them."""

import sys

from freeswitch_callback.cli import main as run
from freeswitch_callback.patches import patch


def main() -> None:
    """`freeswitch-callback`; ends the process with the exit status of what happened."""
    sys.exit(run(before_commands=patch))


if __name__ == "__main__":
    main()
