"""Whether all is well: what `check` looks at, and the agents as FreeSWITCH sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from freeswitch_callback.core import hours, numbers
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.errors import CallbackError, FreeSwitchError
from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.esl.client import Connection
from freeswitch_callback.ledger import Ledger, spool
from freeswitch_callback.operations import machine

SHORTEST_CATCH_UP = 60
"""Seconds of `discard-abandoned-after` below which a short absence of ours already loses callers."""

SHORTEST_CALLING_DAY = 4 * 3600.0
"""Seconds of calling hours on the best day of a week below which a country is as good as not called."""

HOOKS = ("callback_missed", "callback_request", "callback_connect")
"""The extensions of our files for FreeSWITCH's dialplan."""

_SAME_TIME = "let both be set by NTP (`timedatectl` tells)"

_WHERE_MOST_LIVE = {"RU": "Europe/Moscow", "KZ": "Asia/Almaty"}


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
    """Reachable, ours, of this release's schema, writable, and of the same time."""
    try:
        ledger.verify()
        ledger.verify_writable()
        asked = time.time()
        theirs = ledger.now().timestamp()
    except CallbackError as error:
        yield Finding(Level.BAD, "database", str(error), error.exit_status)
        return
    yield Finding(Level.OK, "database", f"{where}, schema {ledger.schema_version()}")
    if differ := machine.apart(theirs, asked, time.time()):
        yield Finding(
            Level.WARNING, "database", f"its clock is {differ}: recalls come due by its clock; {_SAME_TIME}"
        )


def check_disks(folders: Iterable[Path]) -> Iterator[Finding]:
    """Whether there is room where the database and the spools lie, if they are on this machine."""
    for folder in folders:
        try:
            room = machine.room(folder)
        except OSError as error:
            yield Finding(Level.WARNING, "disk", f"{folder} cannot be looked at: {error}")
            continue
        if room.full:
            yield Finding(Level.BAD, "disk", f"{room}: it is full; make room, calls are lost otherwise", 5)
        elif room.almost_full:
            yield Finding(Level.WARNING, "disk", f"{room}: make room before it is full")


def check_spools(nodes: Iterable[str], folder: Path) -> Iterator[Finding]:
    """What was missed, and is not in the database yet."""
    for node in nodes:
        path = folder / f"{node}.spool"
        try:
            waiting = spool.peek(path)
        except (OSError, CallbackError) as error:
            yield Finding(Level.WARNING, "spool", f"{path} cannot be read: {error}")
            continue
        if waiting.facts:
            since = f" since {waiting.since.astimezone():%Y-%m-%d %H:%M:%S}" if waiting.since else ""
            facts = "1 fact waits" if waiting.facts == 1 else f"{waiting.facts} facts wait"
            yield Finding(
                Level.WARNING, "spool",
                f"{path}: {facts}{since} for the database; a running engine brings them there, or else "
                f"`freeswitch-callback run` does",
            )  # fmt: skip


def check_breakers(ledger: Ledger) -> Iterator[Finding]:
    """Prefixes to which there were too many recalls: nobody there is called until a person has looked."""
    for breaker in ledger.breakers():
        yield Finding(
            Level.BAD, "breaker",
            f"all recalls to {breaker.prefix}… are stopped: {breaker.recalls} within a short time; see whom "
            f"(`list`), then `breaker reset {breaker.prefix}`, or `dnc add '{breaker.prefix}*'`",
            1,
        )  # fmt: skip


def check_unknown(ledger: Ledger) -> Iterator[Finding]:
    unknown = ledger.summary().by_state.get(State.UNKNOWN, 0)
    if unknown:
        recalls = "1 recall whose outcome is" if unknown == 1 else f"{unknown} recalls whose outcome is"
        yield Finding(
            Level.WARNING,
            "recalls",
            f"{recalls} unknown: nobody is called for it again until you settle it, with `replay` or `close` "
            f"(`list --state unknown` shows them)",
        )


def check_stranded(ledger: Ledger, nodes: Iterable[str]) -> Iterator[Finding]:
    """Recalls that were under way at a FreeSWITCH that is not in the configuration any more."""
    for stranded in ledger.stranded(list(nodes)):
        yield Finding(Level.WARNING, "recalls", str(stranded))


def check_calling_hours(
    countries: Iterable[str], rules: Iterable[tuple[str, GateRules]], now: datetime
) -> Iterator[Finding]:
    """Countries whose people can hardly be called: the hours that suit all the time zones that their numbers
    may be in are few. `rules` by the section of the configuration that they stand in."""
    for where, gates in rules:
        for country in countries:
            of_type = numbers.zones_of_country(country, gates.numbers)
            for kind in ("mobile", "fixed_line"):  # freephone numbers have no place, and few call from them
                zones = of_type.get(kind) or (gates.zone,)
                longest = hours.longest_day(gates.hours, zones, country, now)
                if longest < SHORTEST_CALLING_DAY:
                    yield Finding(
                        Level.WARNING, "calling hours", _few(where, country, zones, longest, of_type)
                    )
                    break


def _few(
    where: str, country: str, zones: tuple[str, ...], seconds: float, of_type: Mapping[str, tuple[str, ...]]
) -> str:
    text = f"{where}: numbers of {country} can be called for {seconds / 3600:g} h a day"
    if len(zones) == 1:
        return f"{text}; at least {SHORTEST_CALLING_DAY / 3600:g} are better"
    usual = _WHERE_MOST_LIVE.get(country) or of_type.get("fixed_line", zones)[0]
    return (
        f"{text}, when it is open in all {len(zones)} time zones that they may be in; name the one to go by: "
        f'numbers.zones = {{ {country} = "{usual}" }}'
    )


def check_node(
    connect: Callable[[], Connection],
    name: str,
    wanted_queues: Callable[[str], bool],
    connects: Collection[str] = (),
    cdr_folder: bool = False,
) -> Iterator[Finding]:
    """One FreeSWITCH: reachable, password, version, modules, agents, queues, the dialplan's hook.

    `connects`: the extensions that recalls go through (`recall.connect`); `cdr_folder`: whether CDRs of this
    one are watched."""
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
        if cdr_folder and node.api("module_exists mod_json_cdr").strip() != "true":
            yield Finding(
                Level.WARNING, name, "mod_json_cdr is not loaded: nothing will be in capture.cdr_folder"
            )
        yield from _check_dialplan(node, name, connects)
        yield from _check_clock(node, name)
        yield from _check_callcenter(node, name, wanted_queues)
    except FreeSwitchError as error:
        yield Finding(Level.BAD, name, str(error), 4)
    finally:
        node.close()


def _check_dialplan(node: Connection, name: str, connects: Collection[str]) -> Iterator[Finding]:
    """The files of `dialplan/`, as far as they can be seen: a dialplan that FreeSWITCH asks somebody else for
    at each call (mod_xml_curl, FusionPBX) is not in its XML."""
    if connects and node.api("module_exists mod_dialplan_xml").strip() != "true":
        yield Finding(Level.WARNING, name, "mod_dialplan_xml is not loaded: recall.connect leads nowhere")
    text = node.api("xml_locate dialplan")
    for extension in sorted({connect.partition(":")[0] for connect in connects}):
        if f"^{extension}$" not in text:
            yield Finding(
                Level.WARNING, name,
                f"recall.connect: no extension {extension} is seen in the dialplan; without it a recall is "
                f"connected as if recall.connect were empty. Install dialplan/callback_connect.xml and "
                f"`reloadxml`, unless the dialplan is in FusionPBX",
            )  # fmt: skip
    found = [hook for hook in HOOKS if f"^{hook}$" in text]
    if found:
        yield Finding(Level.OK, name, f"dialplan: {', '.join(found)}")
    else:
        yield Finding(Level.OK, name, "dialplan: no hook is seen, and none is needed (docs/dialplan.rst)")


def _check_clock(node: Connection, name: str) -> Iterator[Finding]:
    asked = time.time()
    if differ := machine.apart(callcenter.now(node), asked, time.time()):
        yield Finding(
            Level.WARNING, name, f"its clock is {differ}: waiting times and wrap-up are wrong; {_SAME_TIME}"
        )


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
    return [agent_row(name, agent, tiers.get(agent.name, ())) for agent in callcenter.agents(node)]


def agent_row(node: str, agent: Agent, queues: Iterable[str]) -> dict[str, Any]:
    return {
        "node": node,
        "agent": agent.name,
        "status": agent.status,
        "state": agent.state,
        "queues": " ".join(sorted(queues)),
        "contact": agent.contact,
        "last_bridge_end": datetime.fromtimestamp(agent.last_bridge_end, UTC)
        if agent.last_bridge_end
        else None,
    }
