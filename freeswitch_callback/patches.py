"""gevent's patches, with which a process begins, before it imports anything that opens a socket."""

from functools import cache


@cache
def patch() -> None:
    """As gevent does it. It asks all that is installed for plugins, before and behind each of a dozen
    modules; that takes a tenth of a second. Here it is asked once, however often this is called."""
    from importlib import metadata

    from gevent import monkey

    asked = metadata.entry_points
    metadata.entry_points = asked().select
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = asked
