"""A large contact centre for the benchmarks: a simulated FreeSWITCH in a process of its own, which stamps
what it sends and receives, and a database with as many open recalls as are asked for.

`python -m tests.bench.contact_centre AGENTS QUEUES TALKS` is the simulator's process; it takes orders on its
standard input, one JSON object a line, and answers each with one.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import closing, contextmanager, redirect_stderr, suppress  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from datetime import UTC, datetime, timedelta  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Literal  # noqa: E402

import gevent  # noqa: E402
import peewee  # noqa: E402
import psycopg2  # noqa: E402
import psycopg2.extensions  # noqa: E402
from gevent.fileobject import FileObjectThread  # noqa: E402

from freeswitch_callback.core.capture import CaptureRules  # noqa: E402
from freeswitch_callback.core.gates import GateRules  # noqa: E402
from freeswitch_callback.core.numbers import NumberRules  # noqa: E402
from freeswitch_callback.core.schedule import RetryRules  # noqa: E402
from freeswitch_callback.engine.attempts import RecallRules  # noqa: E402
from freeswitch_callback.engine.daemon import Engine, EngineRules, NodeAddress  # noqa: E402
from freeswitch_callback.engine.interpreter import do_not_stand_still  # noqa: E402
from freeswitch_callback.engine.stderr import log_to_stderr  # noqa: E402
from freeswitch_callback.ledger import Ledger  # noqa: E402
from freeswitch_callback.simulator import Answers, Simulator  # noqa: E402
from tests import postgres  # noqa: E402

ROOT = Path(__file__).parents[2]
FIRST = 10_000
"""The first agent's extension."""

_USER = re.compile(r"sofia/internal/(\d+)@")


def queue_of(agent: int, queues: int) -> str:
    return f"queue{agent % queues}@default"


def agent_of(number: int) -> str:
    return f"{FIRST + number}@default"


# --- the simulator's process -------------------------------------------------------------------------------


class Timed(Simulator):
    """A FreeSWITCH that knows when it sent that an agent is free, and when it was told to call with them."""

    def __init__(self) -> None:
        super().__init__(seed=1, world_legs=False)
        self.freed: dict[str, float] = {}
        self.reactions: list[float] = []

    def free(self, number: int) -> None:
        user = str(FIRST + number)
        self.freed[user] = time.monotonic()
        self.roster.set_state(agent_of(number), "Waiting")

    def heard(self, frame: str) -> None:
        super().heard(frame)
        found = _USER.search(frame) if frame.startswith("bgapi originate") else None
        freed = self.freed.pop(found[1], None) if found else None
        if freed is not None:
            self.reactions.append(time.monotonic() - freed)
            self.changed()


def as_in_its_unit(program: Literal["FreeSWITCH", "engine"]) -> None:
    """This thread, and those that it begins, get the processor before others as systemd's units say; who may
    not have that measures without."""
    with suppress(PermissionError):
        if program == "FreeSWITCH":
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(89))
        else:
            os.setpriority(os.PRIO_PROCESS, 0, -5)


def _serve(agents: int, queues: int, talks: float) -> None:
    as_in_its_unit("FreeSWITCH")
    sim = Timed()
    for number in range(queues):
        sim.add_queue(queue_of(number, queues))
    for number in range(agents):
        # On demand: an agent who has talked is Idle afterwards, and not free again before we say so.
        sim.add_agent(agent_of(number), status="Available (On Demand)", behaviour=Answers(after=0.0))
        sim.agent(agent_of(number)).state = "Idle"
        sim.add_tier(queue_of(number, queues), agent_of(number))
    sim.default_client(Answers(after=0.0, talks=talks))
    sim.start()
    _say({"port": sim.port, "password": sim.password})
    with FileObjectThread(sys.stdin.buffer) as orders:
        for line in orders:
            order = json.loads(line)
            _say(getattr(_Orders, order.pop("do"))(sim, **order))


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


class _Orders:
    """What the simulator's process can be asked for. Times in seconds."""

    @staticmethod
    def react(sim: Timed, first: int, times: int, gap: float) -> dict[str, Any]:
        """Free one agent after the other, the next a moment after the call with the last was ordered."""
        sim.reactions.clear()
        late = 0
        for number in range(first, first + times):
            wanted = len(sim.reactions) + 1
            sim.free(number)
            late += not sim.wait_for(lambda wanted=wanted: len(sim.reactions) >= wanted, 15.0)  # type: ignore[misc]
            gevent.sleep(sim.random.uniform(0.5, 1.5) * gap)
        return {"reactions": list(sim.reactions), "late": late}

    @staticmethod
    def scatter(sim: Timed, first: int, times: int, within: float, wait: float) -> dict[str, Any]:
        """Free many agents at moments spread over `within`, and wait for all."""
        sim.reactions.clear()
        for at, number in enumerate(sorted(sim.random.uniform(0, within) for _ in range(times))):
            gevent.spawn_later(number, sim.free, first + at)
        done = sim.wait_for(lambda: len(sim.reactions) >= times, within + wait)
        return {"reactions": list(sim.reactions), "late": 0 if done else times - len(sim.reactions)}

    @staticmethod
    def traffic(sim: Timed, per_second: float) -> dict[str, Any]:
        """Other calls of the house from now on, each with all its events."""

        def calls() -> None:
            while True:
                number = f"+1202{sim.random.randrange(2_000_000, 9_999_999)}"
                sim.direct_call(number, f"77{sim.random.randrange(100):02}", hangs_up_after_talk=0.5,
                                behaviour=Answers(after=0.05))  # fmt: skip
                gevent.sleep(sim.random.expovariate(per_second))

        gevent.spawn(calls)
        return {}

    @staticmethod
    def everybody(sim: Timed, status: str) -> dict[str, Any]:
        """All agents are on duty and free."""
        for agent in list(sim.roster.agents.values()):
            agent.status = status
            sim.roster.set_state(agent.name, "Waiting")
        return {}

    @staticmethod
    def figures(sim: Timed) -> dict[str, Any]:
        return {"dialled": len(sim.dialled), "talks": len(sim.talks), "cpu": time.process_time()}


class ContactCentre:
    """The simulator's process, seen from the benchmark."""

    def __init__(self, agents: int, queues: int, talks: float) -> None:
        words = [sys.executable, "-m", "tests.bench.contact_centre", str(agents), str(queues), str(talks)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self.address = NodeAddress("fs1", "127.0.0.1", **self._answer())

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


# --- the database ------------------------------------------------------------------------------------------


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of a new, migrated database that is as durable as in production: `sqlite` or `postgresql`."""
    with tempfile.TemporaryDirectory(prefix="callback-bench-") as folder:
        if kind == "sqlite":
            url = f"sqlite://{folder}/callback.db"
            with closing(Ledger(url)) as ledger:
                ledger.migrate()
            yield url
            return
        server = postgres.server()
        for setting in ("fsync = on", "synchronous_commit = on"):
            server.run(f"ALTER SYSTEM SET {setting}")
        server.run("SELECT pg_reload_conf()")
        name = server.create(template=postgres.TEMPLATE)
        yield server.url(name)
        server.run(f"DROP DATABASE {name} WITH (FORCE)")


def fill(url: str, recalls: int, queues: int) -> None:
    """Write open recalls that are due, with a missed call each, without the ledger.

    Each has a number of its own, and neighbours are of different prefixes: no cap holds any back."""
    import sqlite3

    now = datetime.now(UTC)
    recall = (
        "INSERT INTO recall (id, number, scope, queue, state, priority, due_at, expires_at, attempts,"
        " failures, claim, note, created_at, look_at) SELECT n, {number}, 'default',"
        " 'queue' || (n % {queues}) || '@default', 'waiting', 0, {due}, '{expires}', 0, 0, 0, '',"
        " {due}, {due} FROM numbers"
    )
    missed = (
        "INSERT INTO missed (phone, calldate, calledid, timewait, reason, node, call_uuid, queue, number,"
        " caller_name, hangup_cause, extra, recall, settled, recorded_at) SELECT {number}, {due}, '3000', 30,"
        " 'abandoned', 'fs1', 'call-' || n, 'queue' || (n % {queues}) || '@default', {number}, 'Anna',"
        " 'ORIGINATOR_CANCEL', '{{}}', n, {true}, {due} FROM numbers"
    )
    expires = (now + timedelta(days=2)).isoformat(timespec="microseconds")
    begun = (now - timedelta(hours=24)).replace(microsecond=0)
    values: dict[str, Any] = {"queues": queues, "expires": expires}
    if url.startswith("sqlite"):
        number = "'+1202' || printf('%03d', 220 + n % 580) || printf('%04d', n / 580)"
        whole = f"strftime('%Y-%m-%dT%H:%M:%S', {int(begun.timestamp())} + n % 80000, 'unixepoch')"
        due = f"{whole} || '.' || printf('%06d', n % 1000000) || '+00:00'"
        values |= {"number": number, "due": due, "true": "1"}
        numbers = (
            "WITH RECURSIVE numbers (n) AS"
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {recalls})"
        )
        with closing(sqlite3.connect(url.removeprefix("sqlite://"))) as file:
            for text in (recall, missed):
                file.execute(f"{numbers} {text.format(**values)}")
                file.commit()
            file.execute("ANALYZE")
            file.commit()
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    number = "'+1202' || lpad((220 + n % 580)::text, 3, '0') || lpad((n / 580)::text, 4, '0')"
    due = f"to_timestamp({begun.timestamp()} + n % 80000 + (n % 1000000) / 1e6)"
    values |= {"number": number, "due": due, "true": "true"}
    psycopg2.extensions.set_wait_callback(None)  # an engine's, of which there was one, has no time for this
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SET statement_timeout = 0")
        for text in (recall, missed):
            rows = text.format(**values).replace("FROM numbers", f"FROM generate_series(1, {recalls}) AS n")
            cursor.execute(rows)
        cursor.execute("SELECT setval(pg_get_serial_sequence('recall', 'id'), %s)", (recalls,))
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")


# --- the engine --------------------------------------------------------------------------------------------


def log_as_the_service() -> None:
    """What it takes, with nobody who reads it."""
    with redirect_stderr(open(os.devnull, "w")):
        log_to_stderr("info", colours=False)


def engine_rules(poll: float = 5.0) -> EngineRules:
    recall = RecallRules(
        dial_string="sofia/gateway/main/{number}",
        caller_id_number="+12025559999",
        ring_timeout=5.0,
        retry=RetryRules(min_talk=0.0),
    )
    gates = GateRules(numbers=NumberRules())
    return EngineRules(CaptureRules(), lambda queue: gates, lambda queue: recall, poll=poll)


@contextmanager
def running_engine(url: str, centre: ContactCentre, poll: float = 5.0) -> Iterator[Engine]:
    """An engine in this process, connected and at rest."""
    as_in_its_unit("engine")
    with closing(Ledger(url)) as ledger:
        engine = Engine(ledger, [centre.address], engine_rules(poll))
        greenlet = gevent.spawn(engine.run)
        while not engine.sites[0].up:
            gevent.sleep(0.02)
        gevent.sleep(1.0)  # its first looks
        do_not_stand_still()
        try:
            yield engine
        finally:
            engine.stop()
            greenlet.get(timeout=15)


@dataclass(slots=True)
class Asked:
    """How many statements the database was asked since the last `clear`."""

    number: int = 0

    def clear(self) -> None:
        self.number = 0


@contextmanager
def statements() -> Iterator[Asked]:
    """Counts what is asked of the database, and does nothing else: it is in the way of what is measured."""
    asked = Asked()
    execute = peewee.Database.execute_sql

    def counting(self: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        asked.number += 1
        return execute(self, sql, *arguments, **options)

    peewee.Database.execute_sql = counting  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        peewee.Database.execute_sql = execute  # type: ignore[method-assign]


def processor(pid: int) -> float:
    """Seconds that a process has had it."""
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def told(seconds: list[float]) -> dict[str, Any]:
    """p50, p99 and the longest, in milliseconds."""
    if not seconds:
        return {"samples": 0}
    names = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}
    return {"samples": len(seconds)} | {
        name: round(quantile(seconds, share) * 1000, 3) for name, share in names.items()
    }


if __name__ == "__main__":
    random.seed(1)
    _serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
