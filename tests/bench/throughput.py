"""How many recalls one engine brings from the claim to closed in a second, the simulator in another process.

All agents are on duty and free, answer at once and talk for a moment; the recalls are due. What the simulator
takes of the two cores is told beside it: it makes every call with all its events.

`python -m tests.bench.throughput --database sqlite` prints JSON.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from freeswitch_callback.ledger import Ledger  # noqa: E402
from tests.bench import machine  # noqa: E402
from tests.bench.contact_centre import (  # noqa: E402
    ContactCentre,
    database,
    fill,
    log_as_the_service,
    running_engine,
    statements,
)


def run(
    database_kind: str,
    recalls: int = 3_000,
    agents: int = 60,
    *,
    queues: int = 4,
    talks: float = 0.0,
    seconds: float = 15.0,
) -> dict[str, Any]:
    """`seconds`: how long it is watched, after the first two of them, or until all recalls are closed."""
    speeds = [machine.speed()]
    centre = ContactCentre(agents, queues, talks)
    try:
        with database(database_kind) as url:
            fill(url, recalls, queues)
            with running_engine(url, centre) as engine, statements() as counted:
                centre.ask("everybody", status="Available")
                gevent.sleep(2.0)
                before, begun, cpu = _closed(engine.ledger, recalls), time.monotonic(), time.process_time()
                of_sim = centre.ask("figures")["cpu"]
                counted.clear()
                deadline = begun + seconds
                while time.monotonic() < deadline and _closed(engine.ledger, recalls) < recalls:
                    gevent.sleep(0.25)
                asked = counted.number
                took, closed = time.monotonic() - begun, _closed(engine.ledger, recalls) - before
                cpu, of_sim = time.process_time() - cpu, centre.ask("figures")["cpu"] - of_sim
    finally:
        centre.close()
    here = machine.times_slower([*speeds, machine.speed()])
    return {
        "database": database_kind,
        "agents": agents,
        "closed": closed,
        "per_second": round(closed / took, 1),
        "machine": here,
        "per_second_there": round(closed / took * here["times_slower"], 1),
        "engine_cpu_ms_per_recall": round(cpu / max(1, closed) * 1000, 2),
        "simulator_cpu_ms_per_recall": round(of_sim / max(1, closed) * 1000, 2),
        "statements_per_recall": round(asked / max(1, closed), 1),
    }


def _closed(ledger: Ledger, recalls: int) -> int:
    return recalls - sum(ledger.open_by_state().values())


def main() -> None:
    log_as_the_service()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--recalls", type=int, default=3_000)
    parser.add_argument("--agents", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    print(json.dumps(run(given.database, given.recalls, given.agents, seconds=given.seconds), indent=2))


if __name__ == "__main__":
    main()
