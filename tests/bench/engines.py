"""Several engines on one PostgreSQL: what each recall costs the database, and whether they hinder each other.

Engines are processes; so is the simulator. They listen to the same FreeSWITCH, want the same agents and the
same recalls. What they ask PostgreSQL is counted there (pg_stat_statements), and what it wrote for it.

Once with agents who talk, as in a contact centre: how many recalls there are a second is theirs, as long as
engines do not hinder each other. Once with agents who do not, so that there are as many as these processors
make, of which each engine takes its part to hear all events; beside it one engine with neighbours that take
as much of them as the other engines did.

Beside it, in the same run: how often a second that PostgreSQL commits one row for one connection, and for as
many as there are engines.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import ExitStack, closing, contextmanager  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import psycopg2  # noqa: E402
from gevent.threadpool import ThreadPool  # noqa: E402

from freeswitch_callback.ledger import Ledger  # noqa: E402
from tests import postgres  # noqa: E402
from tests.bench import contact_centre  # noqa: E402
from tests.bench.contact_centre import (  # noqa: E402
    ROOT,
    ContactCentre,
    database,
    fill,
    log_as_the_service,
    processor,
)
from tests.bench.neighbour import neighbour  # noqa: E402

_UP_WITHIN = 60.0


_TALK = 1.2
"""Seconds; with 60 agents two cores then have room for four engines, FreeSWITCH and PostgreSQL."""


def run(recalls: int = 1_000, agents: int = 60, *, counts: tuple[int, ...] = (1, 2, 4)) -> dict[str, Any]:
    _count_statements()
    return {
        "agents_talk": {str(engines): _with(engines, recalls, agents, _TALK)[0] for engines in counts},
        "agents_do_not_talk": {
            str(engines): _as_fast_as_it_goes(engines, recalls, agents) for engines in counts
        },
    }


def _as_fast_as_it_goes(engines: int, recalls: int, agents: int) -> dict[str, Any]:
    found, shares = _with(engines, recalls, agents, 0.0)
    if engines == 1:
        return found
    with ExitStack() as others:
        for share in sorted(shares)[:-1]:
            others.enter_context(neighbour(share))
        alone, _ = _with(1, recalls, agents, 0.0)
    return found | {
        "one_with_neighbours": alone["recalls_per_second"],
        "ratio_neighbours": round(found["recalls_per_second"] / alone["recalls_per_second"], 2),
    }


def _with(engines: int, recalls: int, agents: int, talk: float) -> tuple[dict[str, Any], list[float]]:
    """The figures, and what part of a processor each engine took."""
    centre = ContactCentre(agents, queues=4, talks=talk)
    try:
        with database("postgresql") as url:
            fill(url, recalls, queues=4)
            bare = _commits_per_second(url, engines)
            with closing(Ledger(url)) as ledger, _running(url, centre, engines) as pids:
                _forget_statements(url)
                spent = [processor(pid) for pid in pids]
                centre.ask("everybody", status="Available")
                begun = time.monotonic()
                while ledger.open_by_state() and time.monotonic() - begun < _UP_WITHIN * 5:
                    gevent.sleep(0.25)
                took, asked = time.monotonic() - begun, _statements(url)
                spent = [processor(pid) - before for pid, before in zip(pids, spent, strict=True)]
                dialled = centre.ask("figures")["dialled"]
                attempts = sum(len(ledger.show(id_)["attempts"]) for id_ in range(1, recalls + 1, 50))
    finally:
        centre.close()
    found = {
        "recalls": recalls,
        "recalls_per_second": round(recalls / took, 1),
        "dialled": dialled,
        "attempts_of_every_50th": attempts,
        "engines_ms_per_recall": [round(seconds / recalls * 1000, 2) for seconds in sorted(spent)[::-1]],
        "bare_commits_per_second": round(bare),
        **{name: round(count / recalls, 2) for name, count in asked.items()},
    }
    return found, [seconds / took for seconds in spent]


@contextmanager
def _running(url: str, centre: ContactCentre, engines: int) -> Iterator[list[int]]:
    """Their process numbers."""
    address = centre.address
    words = [sys.executable, "-m", "tests.bench.engines", "--engine", url]
    words += [address.host, str(address.port), address.password]
    running = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        for _ in range(engines)
    ]
    try:
        for engine in running:
            assert engine.stdout is not None
            engine.stdout.readline()
        yield [engine.pid for engine in running]
    finally:
        for engine in running:
            engine.kill()
            engine.wait()


def _be_an_engine(url: str, host: str, port: str, password: str) -> None:
    class There:
        address = contact_centre.NodeAddress("fs1", host, int(port), password)

    with contact_centre.running_engine(url, There()):  # type: ignore[arg-type]
        print("ready", flush=True)
        gevent.get_hub().join()


# --- PostgreSQL ---------------------------------------------------------------------------------------------


def _count_statements() -> None:
    server = postgres.server()
    server.run("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
    server.restart()


def _forget_statements(url: str) -> None:
    _ask(url, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    _ask(url, "SELECT pg_stat_statements_reset()")


def _statements(url: str) -> dict[str, float]:
    [(calls, written, ms)] = _ask(
        url,
        "SELECT sum(calls), sum(wal_bytes), sum(total_exec_time) FROM pg_stat_statements "
        "WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    [(commits,)] = _ask(
        url,
        "SELECT sum(calls) FROM pg_stat_statements WHERE query = 'COMMIT' "
        "AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    return {
        "statements_per_recall": float(calls),
        "commits_per_recall": float(commits or 0),
        "wal_bytes_per_recall": float(written),
        "database_ms_per_recall": float(ms),
    }


def _commits_per_second(url: str, connections: int, seconds: float = 2.0) -> float:
    """One row each, as durable as the engine's."""
    _ask(url, "CREATE TABLE bare (n integer)")
    done = 0
    ends = time.monotonic() + seconds

    def commits() -> None:
        nonlocal done
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            while time.monotonic() < ends:
                cursor.execute("INSERT INTO bare VALUES (1)")
                connection.commit()
                done += 1

    pool = ThreadPool(connections)
    for one in [pool.spawn(commits) for _ in range(connections)]:
        one.get()
    pool.kill()
    return done / seconds


def _ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


def main() -> None:
    log_as_the_service()
    if sys.argv[1:2] == ["--engine"]:
        _be_an_engine(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recalls", type=int, default=1_000)
    print(json.dumps(run(parser.parse_args().recalls), indent=2))


if __name__ == "__main__":
    main()
