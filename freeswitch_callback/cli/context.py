"""What commands share: the configuration, the ledger, a connection; opened when a command asks for them."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property, partial
from pathlib import Path

import structlog

from freeswitch_callback.config import Configuration, FreeSwitch, load
from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.hours import Hours
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.daemon import EngineRules, NodeAddress
from freeswitch_callback.engine.recaller import RecallRules
from freeswitch_callback.errors import ConfigurationError
from freeswitch_callback.esl.client import Connection
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.spool import Spool, SpoolInUse

log = structlog.get_logger(__name__)

STATE = "/var/lib/freeswitch-callback"


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
        connection = Connection(node.host, node.port, node.password or "")
        connection.connect()
        return connection

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


def recall_rules(configuration: Configuration, queue: str) -> RecallRules:
    recall = configuration.recall_for(queue)
    delays = dict(recall.retry)
    return RecallRules(
        dial_string=recall.dial_string,
        extension_dial_string=configuration.numbers.extension_dial_string,
        caller_id_number=recall.caller_id_number,
        mode=Mode(recall.mode),
        fairness=Fairness(recall.fairness),
        prefer_agent=recall.prefer_agent,
        ring_timeout=recall.ring_timeout,
        agent_rest=recall.agent_rest,
        retry=RetryRules(
            recall.attempts,
            delays,
            recall.min_talk,
            growth=delays.pop("growth"),
            jitter=delays.pop("jitter"),
        ),
    )


def engine_rules(configuration: Configuration) -> EngineRules:
    """Raises `ConfigurationError` for what only a running engine needs."""
    for where, recall in [("recall", configuration.recall), *configuration.queues.items()]:
        if not recall.caller_id_number:
            raise ConfigurationError(
                f"{where}.caller_id_number is missing: the number that clients see you call from"
            )
    return EngineRules(
        capture=configuration.capture.rules(),
        gates=lambda queue: gate_rules(configuration, queue),
        recall=lambda queue: recall_rules(configuration, queue),
        poll=configuration.poll,
        cdr_folders=configuration.capture.cdr_folder,
    )


def spool_folder(configuration: Configuration, database: Path | None) -> Path:
    """The one that the configuration names, or else beside the file that the `database` is, or else where
    systemd, or the habit, keeps state."""
    if configuration.capture.spool is not None:
        return Path(configuration.capture.spool)
    if database is not None:
        return database.with_name(database.name + "-spool")  # as SQLite's own -wal: never another's
    return Path(os.environ.get("STATE_DIRECTORY", STATE).partition(":")[0]) / "spool"


def open_spools(configuration: Configuration, database: Path | None) -> dict[str, Spool]:
    """Where each node's calls wait while the database is away, by node.
    A node whose spool another process has gets none. Raises `SpoolError`, with all of them closed."""
    folder = spool_folder(configuration, database)
    with ExitStack() as closing:
        spools = {}
        for node in configuration.freeswitch:
            try:
                spools[node.name] = spool = Spool(folder / f"{node.name}.spool")
            except SpoolInUse as error:
                log.warning("spool_in_use", node=node.name, error=str(error), hint="waits for the database")
            else:
                closing.callback(spool.close)
        closing.pop_all()
    return spools


def addresses(configuration: Configuration) -> list[NodeAddress]:
    return [NodeAddress(n.name, n.host, n.port, n.password or "") for n in configuration.freeswitch]
