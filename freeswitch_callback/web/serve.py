"""The process that serves the pages, from its start to its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager

import gevent
import structlog
from gevent import socket
from gevent.event import Event as Flag

from freeswitch_callback.engine.interpreter import do_not_stand_still
from freeswitch_callback.engine.stderr import log_to_stderr
from freeswitch_callback.errors import CallbackError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.web import app
from freeswitch_callback.web.messages import Failed, Start, Started
from freeswitch_callback.web.pipe import Pipe
from freeswitch_callback.web.server import Server
from freeswitch_callback.web.site import Site
from freeswitch_callback.web.stream import Broadcaster
from freeswitch_callback.web.told import Told

log = structlog.get_logger(__name__)

NICENESS = 5
"""Where processors are scarce, calls go first: by this, a process gets a third of what the engine gets. Not
more, since a write that waits for its turn has the lock of a SQLite file."""

_GOODBYE = 0.5
"""Seconds that requests under way have left at the end."""
_ENDS_WITHIN = 5
"""Seconds after which it is over, whatever hangs."""


def main(fd: int) -> int:
    """Serves until the engine ends, or SIGTERM. The exit status."""
    calls_go_first()
    pipe = Pipe(socket.socket(fileno=fd))
    start = pipe.receive()
    if not isinstance(start, Start):
        return 1
    log_to_stderr(start.log_level)
    over = Flag()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    try:
        with closing(Told(start, pipe)) as told, closing(pipe):
            _serve(start, told, pipe, over)
    finally:
        signal.alarm(_ENDS_WITHIN)  # a thread that waits for a lock must not outlive the engine
    return 0


def calls_go_first() -> None:
    """Before there are threads, which inherit it."""
    try:
        os.nice(NICENESS)
    except OSError as error:  # a sandbox that forbids it
        log.warning("not_nice", error=str(error), hint="pages and calls share the processor alike")


def _serve(start: Start, told: Told, pipe: Pipe, over: Flag) -> None:
    # A ledger of its own: what people look up waits for no call, and no call for it.
    with closing(Ledger(start.database, password=start.password, pool=5)) as ledger:
        site = Site(ledger, told, gates=told.gates, recall=told.recall)
        all_known = Flag()
        hearing = gevent.spawn(_hear, told, site, all_known)
        gevent.wait([all_known, hearing, over], count=1)
        if not all_known.is_set():
            return
        try:
            with serving(site, start.listen, start.certificate, start.key) as server:
                do_not_stand_still()
                pipe.send(Started(str(server.server_host), int(server.server_port)))
                gevent.wait([hearing, over], count=1)
        except CallbackError as error:
            pipe.send(Failed(str(error)))
            hearing.join()  # until the engine has read it


def _hear(told: Told, site: Site, all_known: Flag) -> None:
    while (news := told.hear()) is not None:
        if news.settings is not None:
            site.settings = news.settings
        if news.complete:
            all_known.set()


@contextmanager
def serving(
    site: Site, listen: tuple[str, int], certificate: str | None = None, key: str | None = None
) -> Iterator[Server]:
    """As long as it is entered. Raises `ConfigurationError` where it cannot listen."""
    broadcaster = Broadcaster(site)
    server = Server(
        listen,
        app.make(site, broadcaster),
        certificate=certificate,
        key=key,
        many_from=lambda address: site.settings.trusts(address),
    )
    try:
        server.start()
        yield server
    finally:
        broadcaster.close()
        server.stop(timeout=_GOODBYE)
