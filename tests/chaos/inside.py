"""A contact centre whose engine runs in the row's own process, with its clock and its database at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import gevent

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.gates import CapRules, GateRules
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine import daemon
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.engine.daemon import Engine, EngineRules, NodeAddress
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.ledger.spool import Spool
from freeswitch_callback.simulator import Answers, Call, Simulator
from tests.chaos.suite import Counts

QUEUE, EXTENSION = "support@default", "3000"
SETTLES = 20.0
"""Seconds after which something hangs: all takes fractions of one."""


daemon._RECONCILE_EVERY = 1.0  # s instead of a minute


class Inside:
    """Nobody's recall is tried a second time within a run unless the client was surely not called: the delays
    are long."""

    def __init__(
        self, folder: Path, random: Random, *, mode: Mode = Mode.AGENT_FIRST, agents: int = 2
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.random = folder, random
        self.url = f"sqlite://{folder}/callback.db"
        with closing(Ledger(self.url)) as ledger:
            ledger.migrate()
        self.ledger = Ledger(self.url)
        self.sim = Simulator(seed=random.randrange(10**9), world_legs=False)
        self.sim.add_queue(QUEUE, extension=EXTENSION, discard_abandoned_after=7200)
        self.agents = [f"{1001 + number}@default" for number in range(agents)]
        for name in self.agents:
            behaviour = Answers(after=random.uniform(0.01, 0.1))
            self.sim.add_agent(name, status="Logged Out", behaviour=behaviour)
            self.sim.add_tier(QUEUE, name)
        self.sim.default_client(
            lambda _number, chance: Answers(chance.uniform(0.01, 0.1), chance.uniform(0.05, 0.3))
        )
        self.sim.start()
        self.gates = GateRules(min_wait=0.0, caps=CapRules(per_number=0, per_prefix=0, breaker=0))
        self.rules = RecallRules(
            dial_string="sofia/gateway/main/{number}",
            caller_id_number="+12025559999",
            mode=mode,
            ring_timeout=5.0,
            agent_rest=0.0,
            retry=RetryRules(min_talk=0.0, retry=dict.fromkeys(("busy", "no_answer", "failed"), 7200.0)),
        )
        self.missed: list[str] = []  # the numbers of those who gave up
        self.prefix = "+1202555"
        self._given = 0
        self._running: list[tuple[Engine, gevent.Greenlet, Ledger, Spool | None]] = []

    # --- engines ---------------------------------------------------------------------------------------

    def engine(
        self,
        *,
        ledger: Ledger | None = None,
        clock: Clock = SYSTEM,
        spool: bool = True,
        second_look: float = 0.3,
    ) -> Engine:
        """Start one, and wait until it is connected."""
        ledger = ledger or Ledger(self.url)
        spooled = Spool(self.folder / f"spool{len(self._running)}" / "fs1.spool") if spool else None
        engine = Engine(
            ledger,
            [NodeAddress("fs1", "127.0.0.1", self.sim.port, self.sim.password)],
            EngineRules(
                CaptureRules(), lambda queue: self.gates, lambda queue: self.rules,
                poll=0.1, second_look=second_look, settle=0.1, finishing=1.0,
            ),
            spools={"fs1": spooled} if spooled else {},
            clock=clock,
        )  # fmt: skip
        self._running.append((engine, gevent.spawn(engine.run), ledger, spooled))
        self.until(lambda: engine.sites[0].up or self._ended())
        return engine

    def _ended(self) -> bool:
        for _, running, *_ in self._running:
            if running.ready():
                running.get()  # raises what ended it
        return False

    def close(self) -> None:
        for engine, running, ledger, spool in self._running:
            engine.stop()
            running.get(timeout=SETTLES)
            ledger.close()
            if spool is not None:
                spool.close()
        self._running.clear()
        self.ledger.close()
        self.sim.stop()

    def until(self, true: Callable[[], object], timeout: float = SETTLES) -> bool:
        """Whether it became true in time."""
        with gevent.Timeout(timeout, False):
            while not true():
                gevent.sleep(0.01)
            return True
        return False

    # --- people ----------------------------------------------------------------------------------------

    def number(self) -> str:
        self._given += 1
        return f"{self.prefix}{self._given:04}"

    def calls(self) -> Call:
        """Somebody calls, and waits in the queue."""
        call = self.sim.call(self.number(), to=EXTENSION, hangs_up_after_talk=0.1)
        assert self.sim.wait_for(lambda: self.waits(call))
        return call

    def waits(self, call: Call) -> bool:
        members = self.sim.callcenter.members
        return any(m.state == "Waiting" and m.leg is not None and m.leg.uuid == call.uuid for m in members)

    def gives_up(self, call: Call | None = None) -> Call:
        call = call or self.calls()
        call.hang_up()
        assert self.sim.wait_for(lambda: call.uuid not in self.sim.switch.channels)
        self.missed.append(call.number)
        return call

    def on_record(self) -> list[str]:
        return [row["phone"] for row in self.rows()]

    def all_on_record(self) -> bool:
        return set(self.missed) <= set(self.on_record())

    def work(self, available: bool = True) -> None:
        for name in self.agents:
            self.sim.set_status(name, "Available" if available else "Logged Out")

    # --- counting --------------------------------------------------------------------------------------

    def rows(self) -> list[Any]:
        return list(self.ledger.listing(Filter()))

    def at_rest(self) -> bool:
        """Nothing is under way, and no agent is held."""
        return (
            not self.ledger.held()
            and not self.ledger.reservations()
            and all(self.sim.agent(name).state == "Waiting" for name in self.agents)
        )

    def called_back(self) -> bool:
        return all(row["closed_as"] == "recalled" for row in self.rows())

    def counts(self, what: str, *, all_recalled: bool = False) -> Counts:
        """Both sides, once everything is at rest."""
        counts = Counts(runs=1, missed=len(self.missed))
        settled = self.until(
            lambda: self.all_on_record() and self.at_rest() and (not all_recalled or self.called_back())
        )
        rows, dialled = Counter(self.on_record()), Counter(one.number for one in self.sim.dialled)
        counts.recorded = sum(number in rows for number in self.missed)
        counts.lost = counts.missed - counts.recorded
        counts.dialled = sum(dialled.values())
        twice = [number for number, times in (rows + Counter()).items() if times > 1]
        twice += [number for number, times in dialled.items() if times > 1]
        never_missed = sorted(rows.keys() - set(self.missed))
        counts.doubled = len(twice) + len(never_missed)
        counts.stuck = not settled and not counts.lost
        if counts.lost or counts.doubled or counts.stuck:
            states = [(r["phone"], r["state"], r["closed_as"], r["note"]) for r in self.rows()]
            counts.notes.append(
                f"{what}: missed {self.missed}, dialled {dict(dialled)}, twice {twice}, "
                f"not missed {never_missed}, on record {states}, {self.ledger.reservations()}"
            )
        return counts
