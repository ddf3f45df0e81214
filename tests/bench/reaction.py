"""How long from "this agent is free" to the order to call.

From agent-state-change sent to `bgapi originate` received, both taken in the simulator's process by its own
clock. In between lie the event's way, the decision, the claim on disk, the reservation's round trip, the
second look at the agent and the originate.

Beside it, in the same run: the floor, which is the same commands to the same FreeSWITCH with one bare durable
commit and nothing decided; and the same engine if it polled instead of listening.

`python -m tests.bench.reaction --database sqlite --recalls 100000` prints JSON.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import sqlite3  # noqa: E402
import time  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from contextlib import closing, contextmanager  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import psycopg2  # noqa: E402
import structlog  # noqa: E402
from gevent import socket  # noqa: E402

from freeswitch_callback.core.capture import SUBCLASSES  # noqa: E402
from freeswitch_callback.engine.daemon import EVENTS  # noqa: E402
from freeswitch_callback.esl import commands  # noqa: E402
from tests.bench.contact_centre import (  # noqa: E402
    ContactCentre,
    database,
    fill,
    running_engine,
    statements,
    told,
)

TALKS = 0.05
"""Seconds that client and agent talk: the recall is over before the next agent becomes free."""


def run(
    database_kind: str,
    recalls: int = 100_000,
    agents: int = 1_000,
    *,
    queues: int = 20,
    times: int = 300,
    gap: float = 0.1,
    calls_per_second: float = 10.0,
    polls: tuple[float, ...] = (),
) -> dict[str, Any]:
    """Times in milliseconds; `gap` is the seconds between the end of one reaction and the next free agent."""
    centre = ContactCentre(agents, queues, TALKS)
    try:
        with database(database_kind) as url:
            fill(url, recalls, queues)
            centre.ask("traffic", per_second=calls_per_second)
            floor = _floor(url, centre, min(times, 300), gap)
            ours = _ours(url, centre, times, gap)
            polled = {f"poll {poll:g} s": _polled(url, centre, poll) for poll in polls}
    finally:
        centre.close()
    return {
        "database": database_kind,
        "recalls": recalls,
        "agents": agents,
        "reaction": ours,
        "floor": floor,
        "ratio_p50": round(ours["p50"] / floor["p50"], 2),
        "ratio_p99": round(ours["p99"] / floor["p99"], 2),
    } | polled


def grown(database_kind: str, sizes: Sequence[int], times: int = 150) -> dict[str, Any]:
    """The same with so many recalls open, without what stands beside it; and the last p50 by the first."""
    found = {}
    for recalls in sizes:
        centre = ContactCentre(1_000, 20, TALKS)
        try:
            with database(database_kind) as url:
                fill(url, recalls, 20)
                centre.ask("traffic", per_second=10.0)
                reaction = _ours(url, centre, times, 0.1)
        finally:
            centre.close()
        found[str(recalls)] = {name: reaction[name] for name in ("p50", "p99", "late", "memory_mb")}
    first, *_, last = found.values()
    return {"database": database_kind, **found, "growth_p50": round(last["p50"] / first["p50"], 2)}


def _ours(url: str, centre: ContactCentre, times: int, gap: float) -> dict[str, Any]:
    with running_engine(url, centre) as engine, statements() as asked:
        warm = centre.ask("react", first=0, times=20, gap=gap)
        asked.clear()
        cpu = time.process_time()
        before, started = _resident(), time.monotonic()
        found = centre.ask("react", first=20, times=times, gap=gap)
        cpu, seconds = time.process_time() - cpu, time.monotonic() - started
        idle = _idle_cpu(seconds / 4)
        return told(found["reactions"]) | {
            "late": found["late"] + warm["late"],
            "cpu_ms_per_recall": round((cpu - idle * seconds) / times * 1000, 3),
            "idle_cpu_percent": round(idle * 100, 2),
            "statements_per_recall": round(sum(asked.values()) / times, 2),
            "memory_mb": round(_resident()),
            "memory_grew_mb": round(_resident() - before, 1),
            "engine": engine.name,
        }


def _idle_cpu(seconds: float) -> float:
    """Share of a core that the engine takes while only other calls' events come in."""
    cpu = time.process_time()
    gevent.sleep(seconds)
    return (time.process_time() - cpu) / seconds


def _polled(url: str, centre: ContactCentre, poll: float) -> dict[str, Any]:
    """The same engine, deaf to events between two looks."""
    with running_engine(url, centre, poll) as engine:
        deaf: Callable[..., None] = lambda **_: None  # noqa: E731
        engine.wake = deaf  # type: ignore[method-assign]
        for site in engine.sites:
            site.recaller._wake = deaf
        found = centre.ask("scatter", first=0, times=20, within=2 * poll, wait=2 * poll + 5)
        return told(found["reactions"]) | {"late": found["late"]}


def _resident() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 1e6


# --- the floor ---------------------------------------------------------------------------------------------


def _floor(url: str, centre: ContactCentre, times: int, gap: float) -> dict[str, Any]:
    """The least that anybody must do: hear, commit once, reserve, look, order the call."""
    address = centre.address
    with _commits(url) as commit:
        heard = _Socket(address.host, address.port, address.password)
        told_to = _Socket(address.host, address.port, address.password)
        heard.ask(commands.event_plain(EVENTS, SUBCLASSES))
        greenlet = gevent.spawn(_bare, heard, told_to, commit)
        try:
            found = centre.ask("react", first=0, times=times, gap=gap)
        finally:
            greenlet.kill()
            heard.close()
            told_to.close()
        alone = [_timed(commit) for _ in range(200)]
    return told(found["reactions"]) | {"late": found["late"], "commit": told(alone)}


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


class _Socket:
    """The Event Socket with nothing around it."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.socket.makefile("rb")
        self.frame()
        self.ask(commands.auth(password))

    def frame(self) -> bytes:
        length = 0
        while (line := self.read.readline()) != b"\n":
            if not line:
                raise EOFError
            if line.startswith(b"Content-Length:"):
                length = int(line[15:])
        return self.read.read(length)

    def ask(self, command: str) -> bytes:
        self.socket.sendall(command.encode())
        return self.frame()

    def close(self) -> None:
        self.socket.close()


def _bare(heard: _Socket, told_to: _Socket, commit: Callable[[], object]) -> None:
    while True:
        event = heard.frame()
        if b"agent-state-change" not in event or b"CC-Agent-State: Waiting" not in event:
            continue
        agent = event.partition(b"CC-Agent: ")[2].partition(b"\n")[0].decode().replace("%40", "@")
        commit()
        told_to.ask(commands.reserve(agent) + commands.agent_row(agent))  # in one piece
        told_to.frame()
        told_to.ask(_order(agent).command)


def _order(agent: str) -> commands.Originate:
    return commands.Originate(
        job_uuid=str(uuid.uuid4()), call_uuid=str(uuid.uuid4()), entry=1, mode="agent-first",
        number="+12025550100", dial_string="sofia/gateway/main/{number}", caller_id_number="+12025559999",
        contact=f"sofia/internal/{agent.partition('@')[0]}@127.0.0.1:5090", queue="", ring_timeout=5, wait=30,
        reason="abandoned", missed_id=1,
    )  # fmt: skip


@contextmanager
def _commits(url: str) -> Iterator[Callable[[], object]]:
    """One durable commit of rows like a claim's: a recall changed; an attempt, a reservation, a note."""
    insert = (
        "INSERT INTO attempt (recall, node, agent, mode, call_uuid, job_uuid, made_at, number, prefix,"
        " counts, outcome, hangup_cause) VALUES (1, 'fs1', '1001@default', 'agent-first', {m}, {m}, {m}, '',"
        " '', {no}, 'failed', '')"
    )
    rows = (
        "UPDATE recall SET note = 'floor' WHERE id = 1",
        insert,
        "INSERT INTO journal (at, who, what, recall, detail) VALUES ({m}, 'floor', 'claimed', 1, '{{}}')",
        "DELETE FROM reservation WHERE node = 'floor'",
        "INSERT INTO reservation (node, agent, engine, made_at) VALUES ('floor', '1001@default', 'e', {m})",
    )
    mark = "?" if url.startswith("sqlite") else "%s"
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(url.removeprefix("sqlite://"), isolation_level=None, timeout=10)
        connection.execute("PRAGMA synchronous = FULL")
    else:
        connection = psycopg2.connect(url)
        connection.autocommit = True
    texts = [row.format(m=mark, no="0" if mark == "?" else "false") for row in rows]

    def commit() -> None:
        cursor = connection.cursor()
        cursor.execute("BEGIN")
        for text in texts:
            given = [str(uuid.uuid4())] * 2 if "call_uuid" in text else []
            given += [datetime.now(UTC).isoformat()] * (text.count(mark) - len(given))
            cursor.execute(text, given)
        cursor.execute("COMMIT")

    with closing(connection):
        yield commit
        connection.cursor().execute("DELETE FROM attempt WHERE mode = 'agent-first' AND number = ''")
        connection.cursor().execute("DELETE FROM reservation WHERE node = 'floor'")


def main() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--recalls", type=int, default=100_000)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--polls", type=float, nargs="*", default=[])
    parser.add_argument("--growth", type=int, nargs="*", metavar="RECALLS", help="with so many recalls each")
    given = parser.parse_args()
    if given.growth:
        print(json.dumps(grown(given.database, given.growth), indent=2))
        return
    found = run(given.database, given.recalls, given.agents, times=given.times, polls=tuple(given.polls))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
