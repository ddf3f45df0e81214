"""From the configuration to what an engine is given: its rules, its nodes, its spools."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import structlog

from freeswitch_callback.cli.context import gate_rules
from freeswitch_callback.config import Configuration
from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Accept, Mode
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.daemon import EngineRules, NodeAddress
from freeswitch_callback.errors import ConfigurationError
from freeswitch_callback.ledger.spool import Spool, SpoolInUse

log = structlog.get_logger(__name__)

STATE = "/var/lib/freeswitch-callback"


def recall_rules(configuration: Configuration, queue: str) -> RecallRules:
    recall = configuration.recall_for(queue)
    delays = dict(recall.retry)
    return RecallRules(
        dial_string=recall.dial_string,
        extension_dial_string=configuration.numbers.extension_dial_string,
        caller_id_number=recall.caller_id_number,
        connect=recall.connect,
        mode=Mode(recall.mode),
        fairness=Fairness(recall.fairness),
        prefer_agent=recall.prefer_agent,
        ring_timeout=recall.ring_timeout,
        agent_rest=recall.agent_rest,
        accept_within=recall.accept_within if recall.accept is Accept.PAGE else None,
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
        if recall.mode is Mode.QUEUE and recall.accept is Accept.PAGE:
            raise ConfigurationError(
                f'{where}.accept = "page" needs an agent to ask, and mode "queue" reserves nobody: use '
                f'mode "agent-first" or "client-first"'
            )
    return EngineRules(
        capture=configuration.capture.rules(),
        gates=lambda queue: gate_rules(configuration, queue),
        recall=lambda queue: recall_rules(configuration, queue),
        poll=configuration.poll,
        queues=tuple(configuration.queues),
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
