"""What people ask for, whoever asks: the command line, the pages, the dialplan's hook."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from freeswitch_callback.core.facts import Missed, Opening, Reason
from freeswitch_callback.core.gates import GateRules, opening
from freeswitch_callback.errors import CallbackError, FreeSwitchError, UsageError
from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.client import Connection
from freeswitch_callback.ledger import Filter, Ledger, Recorded, Replayed

MANUAL_NODE = "manual"
"""The `node` of what a person has added: such a call came in at no FreeSWITCH."""

SHORTEST_CATCH_UP = 60
"""Seconds of `discard-abandoned-after` below which a short absence of ours already loses callers."""


def add(
    ledger: Ledger, phone: str, queue: str, gates: GateRules, *, now: datetime, name: str = "", by: str = ""
) -> Recorded:
    """Have a number called back that no call of it was missed from. The same gates apply.

    Raises `UsageError` if nothing of the text can ever be called: unlike a missed call, there is nothing to
    keep a record of.
    """
    fact = Missed(
        node=MANUAL_NODE,
        call_uuid=str(uuid.uuid4()),
        phone=phone,
        calldate=now,
        timewait=0,
        reason=Reason.MANUAL,
        queue=queue,
        caller_name=name,
        operator=by or None,
    )
    plan = opening(fact, gates)
    if plan.number is None:
        raise UsageError(
            f"{phone!r} is not a number that can be called ({plan.blocked}); write it like +12025550100"
        )
    return ledger.record(fact, plan)


def replay(ledger: Ledger, chosen: Filter, *, by: str, gates: Callable[[str | None], GateRules]) -> Replayed:
    """Call back again: attempts anew, due now, a new expiry. What a gate had blocked is asked about anew."""

    def today(row: dict[str, Any]) -> Opening:
        fact = Missed(
            **{f.name: row[f.name] for f in fields(Missed) if f.name not in ("reason", "settled")},
            reason=Reason(row["reason"]),
        )
        return opening(fact, gates(fact.queue))

    return ledger.replay(chosen, by=by, expire=gates(None).expire, opening_of=today)


def moment(text: str, now: datetime) -> datetime:
    """A point in time as people write it: a date or time (local without a zone), or an age like `2h`."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        return ago(text, now)
    try:
        return (given if given.tzinfo else given.astimezone()).astimezone(UTC)
    except (OverflowError, ValueError):
        raise UsageError(f"not a time that there is: {text!r}") from None


def ago(text: str, now: datetime) -> datetime:
    """The point in time an age (`12h`, `30d`) before now."""
    try:
        return now - age(text)
    except OverflowError:
        raise UsageError(f"that is before the beginning of time: {text!r}") from None


def age(text: str) -> timedelta:
    """A length of time: `90s`, `15m`, `12h`, `30d`, `8w`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    try:
        return timedelta(seconds=float(text[:-1]) * units[text[-1:]])
    except (KeyError, ValueError, OverflowError):
        raise UsageError(
            f"not a time: {text!r}; write 2026-11-23, 2026-11-23T08:00, or an age like 12h or 30d"
        ) from None


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: what was looked at, how it is, and what to do where it is not well."""

    level: Level
    what: str
    text: str
    exit_status: int = 0


def check_database(ledger: Ledger, where: str) -> Iterator[Finding]:
    try:
        ledger.verify()
    except CallbackError as error:
        yield Finding(Level.BAD, "database", str(error), error.exit_status)
        return
    yield Finding(Level.OK, "database", f"{where}, schema {ledger.schema_version()}")


def check_node(
    connect: Callable[[], Connection], name: str, wanted_queues: Callable[[str], bool]
) -> Iterator[Finding]:
    """One FreeSWITCH: reachable, password, version, mod_callcenter, agents, queues."""
    try:
        node = connect()
    except FreeSwitchError as error:
        yield Finding(Level.BAD, name, str(error), error.exit_status)
        return
    try:
        yield Finding(Level.OK, name, node.api("version").strip().partition("\n")[0])
        for module in ("mod_callcenter", "mod_db"):
            if node.api(f"module_exists {module}").strip() != "true":
                yield Finding(
                    Level.BAD, name, f"{module} is not loaded; `load {module}`, and modules.conf.xml", 4
                )
                return
        yield Finding(Level.OK, name, "mod_callcenter and mod_db are loaded")
        yield from _check_callcenter(node, name, wanted_queues)
    except FreeSwitchError as error:
        yield Finding(Level.BAD, name, str(error), 4)
    finally:
        node.close()


def _check_callcenter(node: Connection, name: str, wanted: Callable[[str], bool]) -> Iterator[Finding]:
    agents = {agent.name: agent for agent in callcenter.agents(node)}
    served: dict[str, list[str]] = {}
    for tier in callcenter.tiers(node):
        served.setdefault(tier.queue, []).append(tier.agent)
    queues = [queue for queue in callcenter.queues(node) if wanted(queue.name)]
    if not queues:
        yield Finding(
            Level.WARNING, name, "no queue matches capture.queues; nothing that waits will be recorded"
        )
    for queue in queues:
        people = [agents[a] for a in served.get(queue.name, ()) if a in agents]
        on_duty = sum(agent.status.startswith("Available") for agent in people)
        text = f"queue {queue.name}: {len(people)} agents, {on_duty} available"
        if not people:
            yield Finding(Level.WARNING, name, f"{text}; nobody can call back for it")
        elif queue.discard_abandoned_after < SHORTEST_CATCH_UP:
            yield Finding(
                Level.WARNING, name,
                f"{text}; discard-abandoned-after is {queue.discard_abandoned_after} s: who gives up while "
                f"the engine is away for longer cannot be read back; at least {SHORTEST_CATCH_UP} is better",
            )  # fmt: skip
        else:
            yield Finding(Level.OK, name, text)
    for agent in agents.values():
        if agent.type != "callback":
            yield Finding(
                Level.WARNING, name, f"agent {agent.name} is {agent.type}: only callback agents are called"
            )


def agent_rows(node: Connection, name: str) -> list[dict[str, Any]]:
    """The agents of one FreeSWITCH, as people want to see them."""
    tiers: dict[str, list[str]] = {}
    for tier in callcenter.tiers(node):
        tiers.setdefault(tier.agent, []).append(tier.queue)
    return [
        {
            "node": name,
            "agent": agent.name,
            "status": agent.status,
            "state": agent.state,
            "queues": " ".join(sorted(tiers.get(agent.name, ()))),
            "contact": agent.contact,
            "last_bridge_end": datetime.fromtimestamp(agent.last_bridge_end, UTC)
            if agent.last_bridge_end
            else None,
        }
        for agent in callcenter.agents(node)
    ]
