"""What commands share: the configuration, the ledger, a connection; opened when a command asks for them."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

from freeswitch_callback.config import Configuration, FreeSwitch, load
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.hours import Hours
from freeswitch_callback.ledger import Ledger

if TYPE_CHECKING:
    from freeswitch_callback.esl.client import Connection


class Context:
    """The words before the command."""

    def __init__(self, path: str) -> None:
        self.path = path

    @cached_property
    def configuration(self) -> Configuration:
        return load(self.path)

    @contextmanager
    def ledger(self, *, verified: bool = True) -> Iterator[Ledger]:
        database = self.configuration.database
        ledger = Ledger(database.url, password=database.password)
        try:
            if verified:
                ledger.verify()
            yield ledger
        finally:
            ledger.close()

    @cached_property
    def gates(self) -> Callable[[str | None], GateRules]:
        """What a queue's gates go by, worked out once for each."""
        return cache(partial(gate_rules, self.configuration))

    def connect(self, node: FreeSwitch) -> Connection:
        from freeswitch_callback.esl.client import (
            Connection,  # what reads the database alone waits not for it
        )

        connection = Connection(node.host, node.port, node.password or "")
        connection.connect()
        return connection

    @property
    def nodes(self) -> list[str]:
        """The names of the servers that are configured."""
        return [node.name for node in self.configuration.freeswitch]

    @property
    def who(self) -> str:
        """Who is at the keyboard, for the journal."""
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            return "cli"


def gate_rules(configuration: Configuration, queue: str | None) -> GateRules:
    recall = configuration.recall_for(queue or "")
    return GateRules(
        numbers=configuration.numbers.rules(),
        min_wait=configuration.capture.min_wait,
        expire=recall.expire,
        priority=recall.priority,
        hours=Hours(recall.hours, recall.holidays),
        zone=recall.zone,
        caps=configuration.caps.rules(recall.at_once),
    )
