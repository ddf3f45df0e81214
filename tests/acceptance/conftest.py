"""A contact centre on the simulator, and an engine that runs against it."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import pytest
import structlog

from freeswitch_callback import cli
from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Missed, Reason
from freeswitch_callback.core.gates import GateRules, opening
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.daemon import Engine, EngineRules, NodeAddress
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.ledger.spool import Spool
from freeswitch_callback.simulator import Answers, Call, Simulator

SUPPORT = "support@default"
OURS = "+12025559999"
CLIENT = "+12025550200"

QUICK = RecallRules(
    dial_string="sofia/gateway/main/{number}",
    caller_id_number=OURS,
    ring_timeout=5.0,
    retry=RetryRules(min_talk=0.0),
)


class House:
    """The simulator, the ledger, and engines that come and go."""

    def __init__(self, sim: Simulator, url: str) -> None:
        self.sim = sim
        self.ledger = Ledger(url)
        self.url = url
        self.rules = QUICK
        self.gates = GateRules(min_wait=0.0)
        self.capture = CaptureRules()
        self.other_nodes: list[NodeAddress] = []
        self.poll = 0.5
        self.second_look = 0.5
        self.settle = 0.1
        self.finishing = 1.0
        self.without_a_word = 60.0
        self.cdr_folders: dict[str, tuple[str, ...]] = {}
        self.spools: dict[str, Spool] = {}
        self.pause: Callable[[], object] = gevent.idle
        self._running: list[tuple[Engine, gevent.Greenlet, Ledger]] = []

    def engine(self, **changes: Any) -> Engine:
        """Start an engine and wait until it is connected; `changes` are to the rules of recalls."""
        rules = replace(self.rules, **changes)
        ledger = Ledger(self.url)
        nodes = [NodeAddress("fs1", "127.0.0.1", self.sim.port, self.sim.password), *self.other_nodes]
        engine = Engine(
            ledger,
            nodes,
            EngineRules(
                self.capture,
                lambda queue: self.gates,
                lambda queue: rules,
                poll=self.poll,
                second_look=self.second_look,
                settle=self.settle,
                finishing=self.finishing,
                without_a_word=self.without_a_word,
                cdr_folders=self.cdr_folders,
            ),
            spools=self.spools,
        )
        self._running.append((engine, gevent.spawn(engine.run), ledger))
        self.until(lambda: engine.sites[0].up)
        return engine

    def stop(self, engine: Engine, within: float = 10.0, *, close: bool = True) -> None:
        """Ask it to stop, as SIGTERM does, and see that it does in time and without an error."""
        entry = next(entry for entry in self._running if entry[0] is engine)
        self._running.remove(entry)
        engine.stop()
        entry[1].get(timeout=within)
        if close:
            entry[2].close()

    def close(self) -> None:
        for engine, *_ in list(self._running):
            self.stop(engine)
        self.ledger.close()

    def until(self, true: Callable[[], object], timeout: float = 30.0) -> None:
        """Wait for something to become true; looked at whenever the hub had something to do."""
        try:
            with gevent.Timeout(timeout):
                while not true():
                    self.pause()
        except gevent.Timeout:
            pytest.fail(f"not in {timeout:g} s; the ledger: {str(self.rows())[:5000]}")

    def rows(self) -> list[Any]:
        return list(self.ledger.listing(Filter()))

    def row(self, **wanted: Any) -> Any:
        """The one row, once it has these values."""
        found: list[Any] = []

        def there() -> bool:
            found[:] = [r for r in self.rows() if all(r[k] == v for k, v in wanted.items())]
            return bool(found)

        self.until(there)
        return found[0]

    def attempts(self, missed_id: int = 1) -> list[dict[str, Any]]:
        return self.ledger.show(missed_id)["attempts"]

    def gave_up(self, number: str = CLIENT, name: str = "Anna") -> None:
        """Somebody waits in the queue for a moment and gives up; it is on record afterwards."""
        call = self.sim.call(number, to="3000", name=name)
        assert self.sim.wait_for(lambda: self.waits(call))
        call.hang_up()
        self.row(call_uuid=call.uuid)

    def waits(self, call: Call) -> bool:
        """Whether this caller waits in a queue now."""
        members = self.sim.callcenter.members
        return any(m.state == "Waiting" and m.leg is not None and m.leg.uuid == call.uuid for m in members)

    def missed(self, *, delay: float = 0.0, **values: Any) -> int:
        """A missed call that is on record already, for instance from before the engine was started; its
        recall is due `delay` seconds from now."""
        given = {
            "node": "fs1", "call_uuid": str(uuid.uuid4()), "phone": CLIENT, "calldate": datetime.now(UTC),
            "timewait": 30, "reason": Reason.ABANDONED, "queue": SUPPORT,
        }  # fmt: skip
        fact = Missed(**(given | values))
        asked = opening(fact, self.gates, datetime.now(UTC))
        return self.ledger.record(fact, replace(asked, delay=delay, look_in=delay)).missed_id

    def hang_up_the_recall(self) -> None:
        """The first leg of the one recall that is up hangs up."""
        [held] = self.ledger.held()
        self.sim.api(f"uuid_kill {held.claim.call_uuid}")

    def free(self, agent: str = "1001@default") -> None:
        self.sim.set_status(agent, "Available")

    def open_pages(self, engine: Engine, *agents: str) -> None:
        """These agents have their page open, and the engine knows it."""
        self.ledger.people.pages_open(agents, lasts=60.0)
        engine.look_who_has_a_page()

    def state(self, agent: str = "1001@default") -> str:
        return self.sim.agent(agent).state


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs that a test starts: as systemd tells them where to keep what must last."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator(seed=7)
    simulator.add_queue(SUPPORT, extension="3000")
    simulator.add_agent("1001@default", status="Logged Out", behaviour=Answers(after=0.02))
    simulator.add_agent("1002@default", status="Logged Out", behaviour=Answers(after=0.02))
    simulator.add_tier(SUPPORT, "1001@default")
    simulator.add_tier(SUPPORT, "1002@default", position=2)
    simulator.client(CLIENT, Answers(after=0.02, talks=0.1))
    simulator.start()
    yield simulator
    simulator.stop()


@pytest.fixture
def house(sim: Simulator, ledger_url: str) -> Iterator[House]:
    house = House(sim, ledger_url)
    yield house
    house.close()


class Shell:
    """Runs commands with a configuration; gives their exit status and what they printed."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self._capsys.readouterr()
        status = cli.main(["--config", str(self.path), *map(str, words)])
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def json(self, *words: object) -> list[Any]:
        status, out, _ = self(*words, "--format", "json")
        assert status == 0
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def shell(
    house: House, sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    path = tmp_path / "callback.toml"
    path.write_text(
        f'database.url = "{house.url}"\n'
        f'freeswitch = [{{ port = {sim.port}, password = "{sim.password}" }}]\n'
        'numbers = { default_region = "US", allow = ["US", "DE"] }\n'
        'recall.dial_string = "sofia/gateway/main/{number}"\n'
        f'recall.caller_id_number = "{OURS}"\n'
        'recall.hours = "always"\n'
    )
    before = structlog.get_config()
    # The house's engines run in this process: what they log meanwhile is not what a command prints.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    yield Shell(path, capsys)
    structlog.configure(**before)
