"""What other processes tell of the recalls, by PostgreSQL's LISTEN/NOTIFY.

A NOTIFY comes with the commit of what it tells of, and is lost on whoever is not connected then: who polls as
well misses nothing. The listener has a connection of its own; it is asked now and then, since a server that
fell silent sends nothing either.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
import peewee
import structlog
from gevent import socket

from freeswitch_callback.errors import CallbackError
from freeswitch_callback.ledger.database import CHANNEL

log = structlog.get_logger(__name__)

ASK_EVERY = 5.0
"""Seconds without a word after which the server is asked whether it is still there."""
ANSWER_WITHIN = 3.0
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0


def listen(connect: Callable[[], peewee.PostgresqlDatabase], own: str, on_change: Callable[[], None]) -> None:
    """Calls `on_change` when anybody else tells of a change (`own` is what we say ourselves), and after each
    connect, since something may have been missed. Runs until its greenlet is killed."""
    delay = FIRST_DELAY
    while True:
        try:
            database = connect()
            try:
                database.connection().silence = ANSWER_WITHIN
                database.execute_sql(f"LISTEN {CHANNEL}")
                delay = FIRST_DELAY
                on_change()
                _hear(database, own, on_change)
            finally:
                database.close()
        except (CallbackError, peewee.PeeweeException) as error:
            log.warning("not_listening", error=" ".join(str(error).split()), again_in=delay)
        gevent.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, LONGEST_DELAY)


def _hear(database: peewee.PostgresqlDatabase, own: str, on_change: Callable[[], None]) -> None:
    """Until the connection breaks, which raises."""
    connection = database.connection()
    while True:
        try:
            socket.wait_read(connection.fileno(), timeout=ASK_EVERY)
        except TimeoutError:
            pass  # nobody said anything: the question below tells whether anybody could have
        # A question, and not poll() alone, which on a closed connection raises no error of peewee's.
        database.execute_sql("SELECT 1")
        told = [notice.payload for notice in connection.notifies]
        connection.notifies.clear()
        if any(payload != own for payload in told):
            on_change()
