"""The program's entry: gevent's patches first, before anything that opens a socket is imported."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

from freeswitch_callback.cli import main as run  # noqa: E402


def main() -> None:
    """`freeswitch-callback`; ends the process with the exit status of what happened."""
    sys.exit(run())


if __name__ == "__main__":
    main()
