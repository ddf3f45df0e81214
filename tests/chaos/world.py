"""A contact centre under load, the engines that serve it as processes, and the count of both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import gevent

from freeswitch_callback.errors import DatabaseError
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.simulator import Answers, Call, Simulator
from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.phones import Phone
from freeswitch_callback.simulator.stories import Behaviour, Busy
from tests import postgres
from tests.chaos.programs import Program
from tests.chaos.suite import Counts

QUEUE, EXTENSION = "support@default", "3000"
_NUMBERS = 10_000


class Watched(Simulator):
    """A FreeSWITCH that tells of each command before it runs, and after, when nobody has its reply yet.

    Told before, the listener may say True: then the command is lost with its sender.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed, world_legs=False)
        self.before: Callable[[str], bool] = lambda _command: False
        self.after: Callable[[str], object] = lambda _command: None
        self.fired: Callable[[str], object] = lambda _event: None
        fire = self.bus.fire

        def fire_and_tell(name: str, *arguments: object, **options: object) -> None:
            self.fired(name)
            fire(name, *arguments, **options)  # type: ignore[arg-type]

        self.bus.fire = fire_and_tell  # type: ignore[method-assign]

    def commands_run(
        self, command: str, reply: Callable[[str], None], *, text: str = "", job: str = ""
    ) -> None:
        if job or not self.before(command):  # a job was told of when it was sent
            super().commands_run(command, reply, text=text, job=job)
            if not job:
                self.after(command)

    def background(self, command: str, job: str, frame: str) -> None:
        if not self.before(f"bgapi {command}"):
            super().background(command, job, frame)
            self.after(f"bgapi {command}")


class World:
    """Simulated FreeSWITCHes, one database, and engines. Every caller has a number of their own."""

    def __init__(
        self,
        folder: Path,
        random: Random,
        *,
        database: str,
        nodes: int = 1,
        engines: int = 1,
        agents: int = 4,
        mode: str = "agent-first",
        lease: float = 1.5,
        second_look: float = 0.7,
        talks: tuple[float, float] = (0.05, 0.4),
        abandoned_kept: int = 3600,
        url: str | None = None,
    ) -> None:
        """`abandoned_kept`: seconds for which a queue knows who has given up."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.random = folder, random
        self.talks = talks
        self.calls: list[Call] = []
        self.wanted: set[str] = set()  # numbers whose missed call was put on record by hand
        self.again: set[str] = set()  # of those who called again: they may have been served then
        self.overlaps = 0  # dialled on one node while up on another
        self.disturbed = 0  # an agent's phone rang while they were in another call
        self._asked: dict[str, float] = {}
        self.sims = [self._simulator(agents, abandoned_kept) for _ in range(nodes)]
        self.url = url or _new_database(database, folder)
        self.ledger = Ledger(self.url)
        self.ledger.migrate()
        self.engines = [
            Program(self._configuration(number, mode), lease, second_look) for number in range(engines)
        ]

    # --- the house -------------------------------------------------------------------------------------

    def _simulator(self, agents: int, abandoned_kept: int) -> Watched:
        sim = Watched(seed=self.random.randrange(10**9))
        sim.add_queue(QUEUE, extension=EXTENSION, discard_abandoned_after=abandoned_kept)
        for number in range(1, agents + 1):
            name = f"{1000 + number}@default"
            after = self.random.uniform(0.01, 0.08)
            sim.add_agent(name, behaviour=Answers(after=after), busy_delay_time=0, reject_delay_time=0)
            sim.add_tier(QUEUE, name, position=number)
        sim.default_client(lambda number, _random: self._client(sim, number))
        count = sim.dialler.count

        def counted(leg: object, origin: object) -> None:
            if any(other.live_calls(leg.party[1]) for other in self.sims if other is not sim):  # type: ignore[attr-defined]
                self.overlaps += 1
            count(leg, origin)  # type: ignore[arg-type]

        sim.dialler.count = counted  # type: ignore[method-assign]
        ring = sim.phones.ring

        def ring_and_tell(phone: Phone, leg: Channel) -> None:
            if phone.party[0] == "agent" and phone.calls:
                self.disturbed += 1
            ring(phone, leg)

        sim.phones.ring = ring_and_tell  # type: ignore[method-assign]
        sim.start()
        return sim

    def _client(self, sim: Watched, number: str) -> Behaviour:
        """Everybody answers; one in eight is busy at first."""
        now = sim.clock.now()
        if int(number[-4:]) % 8 == 0 and now - self._asked.setdefault(number, now) < 0.3:
            return Busy()
        return Answers(after=0.02, talks=self.talks[0] + (int(number[-4:]) % 10) / 10 * self.talks[1])

    def _configuration(self, number: int, mode: str) -> Path:
        path = self.folder / f"engine{number}.toml"
        nodes = ", ".join(
            f'{{ name = "fs{at}", port = {sim.port}, password = "{sim.password}" }}'
            for at, sim in enumerate(self.sims, 1)
        )
        path.write_text(
            f'database.url = "{self.url}"\n'
            f"freeswitch = [{nodes}]\n"
            f'capture = {{ min_wait = 0, spool = "{self.folder}/spool{number}" }}\n'
            "caps = { per_number = 0, per_prefix = 0, breaker = { recalls = 0 } }\n"
            '[recall]\ncaller_id_number = "+12025559999"\nhours = "always"\n'
            f'mode = "{mode}"\nmin_talk = 0\npoll = 0.5\nattempts = 100\nagent_rest = 0\n'
            "retry = { busy = 1, no_answer = 1, failed = 1, growth = 1, jitter = 0 }\n"
        )
        return path

    def close(self) -> None:
        for engine in self.engines:
            engine.kill()
        for sim in self.sims:
            sim.stop()
        self.ledger.close()

    # --- people ----------------------------------------------------------------------------------------

    def number(self) -> str:
        at = len(self.calls) + len(self.wanted)
        return f"+1202{555 + at // _NUMBERS}{at % _NUMBERS:04}"

    def caller(self, patience: float) -> Call:
        """Somebody calls, and gives up after so many seconds unless they are served."""
        sim = self.sims[len(self.calls) % len(self.sims)]
        call = sim.call(
            self.number(), to=EXTENSION, gives_up_after=patience,
            hangs_up_after_talk=self.random.uniform(*self.talks),
        )  # fmt: skip
        self.calls.append(call)
        return call

    @contextmanager
    def load(self, every: float = 0.15) -> Iterator[None]:
        """People call all the time; some are served, most give up."""

        def keep_calling() -> None:
            while True:
                self.caller(self.random.uniform(0.02, 0.25))
                gevent.sleep(self.random.uniform(0.5, 1.5) * every)

        calling = gevent.spawn(keep_calling)
        try:
            yield
        finally:
            calling.kill()

    # --- waiting ---------------------------------------------------------------------------------------

    def wait_up(self, timeout: float = 40.0) -> None:
        """Until somebody has logged in at every node."""
        for sim in self.sims:
            if not sim.wait_for(lambda sim=sim: sim.clients, timeout):  # type: ignore[misc]
                raise RuntimeError(f"no engine in {timeout:g} s; see {self.folder}")

    def until(self, true: Callable[[], object], timeout: float, every: float = 0.05) -> bool:
        with gevent.Timeout(timeout, False):
            while not true():
                gevent.sleep(every)
            return True
        return False

    def settled(self, timeout: float = 60.0) -> bool:
        """Until everything that was missed is on record and closed, and nobody is held; False: not in
        time."""
        self.until(lambda: all(call.ended.is_set() for call in self.calls), timeout)
        return self.until(self._all_done, timeout)

    def _all_done(self) -> bool:
        if any(sim.switch.channels for sim in self.sims):
            return False
        try:
            if self.ledger.count(Filter()) < len(self.missed()) or self.ledger.open_by_state():
                return False
            return not self.ledger.reservations() and not self._not_waiting()
        except DatabaseError:
            return False

    # --- counting --------------------------------------------------------------------------------------

    def missed(self) -> set[str]:
        """The numbers of those whom nobody served."""
        return self.wanted | {call.number for call in self.calls if call.ended.is_set() and not call.talking}

    def _not_waiting(self) -> list[str]:
        return [
            f"{agent.name} {agent.state}"
            for sim in self.sims
            for agent in sim.roster.agents.values()
            if agent.state != "Waiting"
        ]

    def counts(self, runs: int, timeout: float = 60.0) -> Counts:
        """Wait until all is settled, and compare."""
        settled = self.settled(timeout)
        counts = Counts(runs=runs)
        missed = self.missed()
        rows = Counter(row["phone"] for row in self.ledger.listing(Filter()))
        dialled: dict[str, list[float]] = defaultdict(list)
        reached: dict[str, float] = {}
        for sim in self.sims:
            for one in sim.dialled:
                dialled[one.number].append(one.at)
            for talk in sim.talks:
                reached[talk.number] = min(talk.started, reached.get(talk.number, talk.started))
        counts.missed, counts.recorded = len(missed), len(missed & rows.keys())
        counts.dialled = sum(map(len, dialled.values()))
        told = counts.notes
        told += [f"{number}: lost" for number in sorted(missed - rows.keys())]
        counts.lost = len(told)
        doubles = [f"{number}: has {times} rows" for number, times in rows.items() if times > 1]
        doubles += [f"{number}: is on record, but was not missed" for number in sorted(rows.keys() - missed)]
        for number, times in dialled.items():
            after = sum(at > reached.get(number, at) for at in times)
            doubles += [f"{number}: dialled after they were reached, {times}"] * after
            if max(sim.most_live_calls(number) for sim in self.sims) > 1:
                doubles.append(f"{number}: two calls at the same time, {times}")
        doubles += ["an agent was rung while in another call"] * self.disturbed
        doubles += ["dialled on one node while up on another"] * self.overlaps
        counts.doubled = len(doubles)
        stuck = [f"agent {name}" for name in self._not_waiting()]
        stuck += [f"{held.agent}: a reservation is left on record" for held in self.ledger.reservations()]
        stuck += [
            f"{row['phone']}: {row['state']}, {row['note']}"
            for row in self.ledger.listing(Filter())
            if row["closed_as"] not in ("recalled", "served_inbound" if row["phone"] in self.again else "")
        ]
        counts.stuck = len(stuck)
        if not settled and not counts.lost and not stuck:
            counts.stuck, stuck = 1, ["calls are left up"]
        told += doubles + stuck
        if told:
            told.append(f"see {self.folder}")
        return counts


def _new_database(kind: str, folder: Path) -> str:
    if kind == "sqlite":
        return f"sqlite://{folder}/callback.db"
    server = postgres.server()
    return server.url(server.create(template=postgres.TEMPLATE))
