"""The pages of a busy day: how long people wait for them, and what they cost the calls.

`--board`: 100,000 recalls on the supervisor's board. Each kind of request, one after the other; then how long
a change takes until every reader has heard of it and every board shows it, with 480 operators' pages and 20
boards open.

Without it: the engine's reaction, as `reaction` measures it, with 500 open pages, 50 streams that nobody
reads and people who log in all the time; in turns with the same engine without them, and with a neighbour
that takes as much of a processor as the pages did, and does nothing with it.

People are a process of their own (`visitors`), so is FreeSWITCH; and so are the pages, as in `run`.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sqlite3  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import ExitStack, closing, contextmanager  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import quote  # noqa: E402

import gevent  # noqa: E402
import psycopg2  # noqa: E402

from freeswitch_callback.cli.website import served  # noqa: E402
from freeswitch_callback.core.access import Role  # noqa: E402
from freeswitch_callback.core.facts import Missed, Opening, Reason  # noqa: E402
from freeswitch_callback.ledger import Ledger  # noqa: E402
from freeswitch_callback.operations import accounts  # noqa: E402
from freeswitch_callback.web.process import PagesProcess  # noqa: E402
from freeswitch_callback.web.site import Settings  # noqa: E402
from tests.bench.contact_centre import (  # noqa: E402
    ContactCentre,
    agent_of,
    database,
    fill,
    log_as_the_service,
    processor,
    queue_of,
    running_engine,
    told,
)
from tests.bench.neighbour import neighbour  # noqa: E402
from tests.bench.visitors import Abroad  # noqa: E402

PASSWORD = "correct horse battery"
QUEUES, AGENTS = 20, 1_000
BOARDS, OPERATORS = 20, 480
OF_ONE = 20
"""Streams that one user has."""
STALLED, LOG_IN = 50, 20
ROUNDS = 3
"""How often the reaction is measured without pages, with them and beside a neighbour, in turns."""

_SLOW = 1.0
"""Seconds; such a request is not made many times."""

# Names, waits and attempts that differ; seven of ten have been called back.
_VARIETY = (
    "UPDATE missed SET caller_name = 'Client ' || id, timewait = (id * 7919) % 600",
    "UPDATE recall SET attempts = id % 4",
    "UPDATE recall SET state = 'closed', closed_as = 'recalled', closed_at = due_at, closed_by = 'fs1'"
    " WHERE id % 10 < 7",
    "UPDATE missed SET recalldate = calldate, recalloperator = '10001@default' WHERE id % 10 < 7",
)

_SORTS = ("-calldate", "calldate", "-timewait", "due_at", "-attempts")
"""Those that the board offers."""
_SEARCHES = {
    "by the end of a number": "5550",
    "by a part of many": "+12022",
    "by a name": "client 4711",
    "for nothing": "nobody at all",
}
_HTTP = {
    "the page": "/board",
    "its figures": "/board/now",
    **{f"sorted by {by}": f"/board/calls?sort={quote(by)}" for by in _SORTS},
    **{f"searched {how}": f"/board/calls?search={quote(text)}" for how, text in _SEARCHES.items()},
    "those that wait, the next first": "/board/calls?state=waiting&sort=due_at",
    "of one queue, who waited longest": f"/board/calls?queue={quote(queue_of(3, QUEUES))}&sort=-timewait",
    "the chart of 30 days": "/board/chart?days=30",
    "the report of a day": "/api/v1/report?since=48h",
}


def board(kind: str, recalls: int = 100_000, *, times: int = 20, changes: int = 15) -> dict[str, Any]:
    """Milliseconds."""
    with _site(kind, recalls, varied=True) as (engine_ledger, _, people, _):
        eva = people.sessions["supervisor"][0]
        asked = {}
        for what, path in _HTTP.items():
            first = people.abroad.ask("ask", session=eva, path=path, times=1)["took"][0]
            again = times if first < _SLOW else 2
            took = people.abroad.ask("ask", session=eva, path=path, times=again)["took"]
            asked[what] = _told(took) | {"first": round(first * 1000, 1)}
        people.open_pages()
        return {"database": kind, "recalls": recalls, "requests": asked} | _news(
            engine_ledger, people, changes
        )


def _news(ledger: Ledger, people: People, changes: int) -> dict[str, Any]:
    """Somebody is missed; from the commit on until all readers have heard it, and until a board shows it."""
    heard: list[float] = []
    shown: list[float] = []
    looks: list[float] = []
    not_heard = not_shown = 0
    for number in range(changes):
        gevent.sleep(2.0)  # a quiet moment: what comes in a row is shown together
        people.abroad.ask("told")
        recorded = ledger.record(
            _missed(number), Opening(f"+1303555{number:04}", "default", queue_of(0, QUEUES))
        )
        at = time.monotonic()
        gevent.sleep(1.5)
        told_of = people.abroad.ask("told")
        told_at = [moment - at for moment in told_of["heard"].get(f"opened {recorded.recall_id}", [])]
        shown_at = [moment - at for moment, _ in told_of["shown"]]
        not_heard += BOARDS + OPERATORS - len(told_at)
        not_shown += BOARDS - len(shown_at)
        heard, shown, looks = heard + told_at, shown + shown_at, looks + told_of["looks"]
    return {
        "readers": BOARDS + OPERATORS,
        "heard_by_a_reader": _told(heard),
        "shown_on_a_board": _told(shown),
        "not_heard_within_1.5_s": not_heard,
        "not_shown_within_1.5_s": not_shown,
        "look": _told(looks),
    }


def _missed(number: int) -> Missed:
    return Missed(
        node="fs1", call_uuid=f"news-{number}", phone=f"+1303555{number:04}", calldate=datetime.now(UTC),
        timewait=30, reason=Reason.ABANDONED, queue=queue_of(0, QUEUES),
    )  # fmt: skip


def open_pages(kind: str, recalls: int = 100_000, *, times: int = 300, gap: float = 0.1) -> dict[str, Any]:
    reactions: dict[str, list[dict[str, Any]]] = {"without": [], "with": [], "with_a_neighbour": []}
    each: list[dict[str, Any]] = []
    with _site(kind, recalls, varied=False, traffic=10.0) as (_, centre, people, pages):
        for _ in range(ROUNDS):
            reactions["without"].append(_reaction(centre, times, gap))
            people.come()
            people.open_pages()
            people.abroad.ask("stall", sessions=people.sessions["stalled"])
            people.abroad.ask("storm", users=people.storming, password=PASSWORD)
            gevent.sleep(2.0)
            people.abroad.ask("told")
            with _watched({"engine": os.getpid(), "pages": pages}) as seen:
                reactions["with"].append(_reaction(centre, times, gap))
            told_of = people.abroad.ask("told")
            people.abroad.close()
            gevent.sleep(5.0)
            log_ins = told_of["log_ins"] / seen["seconds"]
            with neighbour(seen["share"]["pages"], passwords=log_ins, humble=True):
                reactions["with_a_neighbour"].append(_reaction(centre, times, gap))
            each.append(seen | told_of | {"log_ins": log_ins})
        reactions["without"].append(_reaction(centre, times, gap))
    without, during, beside = (
        _all_told(reactions[which]) for which in ("without", "with", "with_a_neighbour")
    )
    looks = [took for one in each for took in one["looks"]]
    return {
        "database": kind,
        "recalls": recalls,
        "pages": BOARDS + OPERATORS,
        "stalled": STALLED,
        "without": without,
        "with": during,
        "with_a_neighbour": beside,
        **{f"ratio_{q}": round(during[q] / without[q], 2) for q in ("p50", "p99")},
        **{f"ratio_{q}_neighbour": round(during[q] / beside[q], 2) for q in ("p50", "p99")},
        "log_ins_per_second": [round(one["log_ins"], 1) for one in each],
        "looks_per_second": round(len(looks) / sum(one["seconds"] for one in each), 1),
        "look": _told(looks),
        **{name: sum(one[name] for one in each) for name in ("refused", "failed", "lost", "dropped")},
        "cpu_percent": [{who: round(share * 100) for who, share in one["share"].items()} for one in each],
        "memory_mb": each[-1]["memory"],
        "memory_grew_mb": [one["grew"] for one in each],
    }


@contextmanager
def _watched(processes: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Afterwards: the `seconds` that it lasted; the `share` of a processor that each of these processes took,
    its `memory` at the end, and by how much that `grew` (MB)."""
    seen: dict[str, Any] = {}
    resident = {who: _resident(pid) for who, pid in processes.items()}
    began, cpu = time.monotonic(), {who: processor(pid) for who, pid in processes.items()}
    yield seen
    seconds = time.monotonic() - began
    memory = {who: _resident(pid) for who, pid in processes.items()}
    seen |= {
        "seconds": seconds,
        "share": {who: (processor(pid) - cpu[who]) / seconds for who, pid in processes.items()},
        "memory": {who: round(size) for who, size in memory.items()},
        "grew": {who: round(size - resident[who], 1) for who, size in memory.items()},
    }


def _all_told(phases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all phases together."""
    return told([took for phase in phases for took in phase["reactions"]]) | {
        "late": sum(phase["late"] for phase in phases)
    }


def _reaction(centre: ContactCentre, times: int, gap: float) -> dict[str, Any]:
    warm = centre.ask("react", first=0, times=20, gap=gap)
    found = centre.ask("react", first=20, times=times, gap=gap)
    return {"reactions": found["reactions"], "late": found["late"] + warm["late"]}


# --- the site and its people -------------------------------------------------------------------------------


class People:
    """Users with a session each, and their process."""

    def __init__(self, ledger: Ledger, port: int) -> None:
        self.sessions: dict[str, list[str]] = {}
        hashed = accounts.hashed(PASSWORD)
        boards, operators = BOARDS // OF_ONE, OPERATORS // OF_ONE
        self._users(ledger, "supervisor", boards, hashed, Role.SUPERVISOR)
        self._users(ledger, "operator", operators, hashed, Role.OPERATOR)
        self._users(ledger, "stalled", STALLED, hashed, Role.SUPERVISOR)
        self._users(ledger, "storm", LOG_IN, hashed, Role.SUPERVISOR)
        self.storming = [f"storm{number}" for number in range(LOG_IN)]
        self._port = port
        self.abroad = Abroad(port)

    def come(self) -> None:
        """Again, after their process was ended."""
        self.abroad.close()
        self.abroad = Abroad(self._port)

    def _users(self, ledger: Ledger, name: str, count: int, hashed: str, role: Role) -> None:
        self.sessions[name] = []
        for number in range(count):
            agent = agent_of(AGENTS - QUEUES * (number + 1)) if role is Role.OPERATOR else None
            ledger.people.add_user(f"{name}{number}", hashed, role, "bench", agent=agent)
            person = ledger.people.user(f"{name}{number}")
            secret = accounts.new_secret()
            assert person is not None
            ledger.people.begin_session(person, accounts.key_of(secret), 86400.0, 86400.0)
            self.sessions[name].append(secret)

    def open_pages(self) -> None:
        self.abroad.ask("open", kind="board", sessions=self.sessions["supervisor"], pages=OF_ONE)
        self.abroad.ask("open", kind="operator", sessions=self.sessions["operator"], pages=OF_ONE)


@contextmanager
def _site(
    kind: str, recalls: int, *, varied: bool, traffic: float = 0.0
) -> Iterator[tuple[Ledger, ContactCentre, People, int]]:
    """With the pid of the process that serves the pages."""
    with ExitStack() as stack:
        centre = ContactCentre(AGENTS, QUEUES, 0.05)
        stack.callback(centre.close)
        url = stack.enter_context(database(kind))
        fill(url, recalls, QUEUES)
        if varied:
            _run(url, _VARIETY)
        if traffic:
            centre.ask("traffic", per_second=traffic)
        engine = stack.enter_context(running_engine(url, centre))
        pages = stack.enter_context(
            served(PagesProcess(engine, url, None, Settings(), ("127.0.0.1", 0), log_level="error"))
        )
        people = People(engine.ledger, int(pages.address.rpartition(":")[2]))
        stack.callback(lambda: people.abroad.close())
        yield engine.ledger, centre, people, pages.pid


def _run(url: str, statements: Sequence[str]) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite://"))) as file:
            for statement in statements:
                file.execute(statement)
            file.commit()
        return
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in (*statements, "VACUUM ANALYZE"):  # as autovacuum does within a minute
                cursor.execute(statement)


def _told(seconds: list[float]) -> dict[str, Any]:
    """As `told`, to a tenth."""
    return {name: round(value, 1) for name, value in told(seconds).items()}


def _resident(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 1e6


def main() -> None:
    log_as_the_service()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--recalls", type=int, default=100_000)
    parser.add_argument("--board", action="store_true")
    given = parser.parse_args()
    found = board(given.database, given.recalls) if given.board else open_pages(given.database, given.recalls)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
