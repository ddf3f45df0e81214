"""The simulator as its users see it: a FreeSWITCH with a contact centre, and the people around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import gevent
from gevent.event import Event

from freeswitch_callback.simulator import dialplan
from freeswitch_callback.simulator.applications import Applications
from freeswitch_callback.simulator.callcenter import Callcenter
from freeswitch_callback.simulator.calls import Call, Talk
from freeswitch_callback.simulator.channel import Bridge
from freeswitch_callback.simulator.clock import Clock, RealClock
from freeswitch_callback.simulator.commands import Commands, Store
from freeswitch_callback.simulator.dial import Dialled, Dialler
from freeswitch_callback.simulator.events import Bus, header
from freeswitch_callback.simulator.originate import Application, parse_dial_string
from freeswitch_callback.simulator.phones import Phones, Ring
from freeswitch_callback.simulator.roster import Roster
from freeswitch_callback.simulator.server import Server
from freeswitch_callback.simulator.session import Session, background_job
from freeswitch_callback.simulator.stories import Answers, Behaviour, ClientRule, Silent
from freeswitch_callback.simulator.switch import Switch
from freeswitch_callback.simulator.tables import STATUSES, Agent, Queue, Tier


class Simulator:
    """One FreeSWITCH node.

    `seed` decides every uuid and every choice; with a `ManualClock` two runs send the same bytes. `tick` is
    how long a message between two legs takes, `pace` how often a queue looks for work (seconds).
    `reserve_agents` is mod_callcenter's setting of that name.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        clock: Clock | None = None,
        password: str = "ClueCon",
        hostname: str = "sim1",
        tick: float = 0.0,
        pace: float = 0.1,
        reserve_agents: bool = True,
        world_legs: bool = True,
        heartbeat: float = 20.0,
    ) -> None:
        self.clock = clock or RealClock()
        self.random = Random(seed)
        self.password = password
        self.heartbeat = heartbeat
        self.bus = Bus(self.clock.now, hostname)
        self.switch = Switch(self.clock, self.bus, self.random, tick)
        self.phones = Phones(self.switch, self.random)
        self.executed: list[
            str
        ] = []  # what a hostile value made FreeSWITCH run, or dial beside the first leg
        self.dialler = Dialler(self.switch, self.phones, self._note)
        self.dialler.world_legs = world_legs
        self.store = Store()
        self.house = Applications(self.dialler, self.bus, self.store.run)
        self.roster = Roster(self.bus, self.clock.now)
        self.callcenter = Callcenter(self.dialler, self.roster, pace=pace, reserve_agents=reserve_agents)
        self.house.callcenter = self.callcenter
        self._api = Commands(self.house, self.callcenter, self.store, hostname)
        self.server = Server(self)
        self.holding_replies = False
        self.commands: list[tuple[float, str]] = []  # every command received, as it came
        self.talks: list[Talk] = []
        self.calls: set[Call] = set()
        self.port = 0
        self._host = "127.0.0.1"
        self._sessions: list[Session] = []
        self._waiting: list[Event] = []
        self.bus.changed = self.changed
        self.switch.run_hook = self.store.run_hook
        self.switch.talked = self._talked
        self._boot()

    # The house

    @property
    def gateways(self) -> set[str]:
        """The gateways that are defined; any other is INVALID_GATEWAY."""
        return self.dialler.gateways

    @gateways.setter
    def gateways(self, names: set[str]) -> None:
        self.dialler.gateways = set(names)

    def add_queue(
        self,
        name: str,
        strategy: str = "longest-idle-agent",
        *,
        max_wait_time: int = 0,
        exit_keys: str = "",
        discard_abandoned_after: int = 60,
        abandoned_resume_allowed: bool = False,
        max_wait_time_with_no_agent: int = 0,
        extension: str = "",
        did: str | None = None,
        then: tuple[Application, ...] = (("hangup", "NORMAL_CLEARING"),),
    ) -> Queue:
        """A queue, behind an extension and perhaps an outside number (`did`); `then` is what the dialplan
        does with a caller who left it unserved, e.g. `(("callcenter", "second@default"),)`."""
        queue = Queue(
            name,
            strategy,
            max_wait_time=max_wait_time,
            max_wait_time_with_no_agent=max_wait_time_with_no_agent,
            exit_keys=exit_keys,
            discard_abandoned_after=discard_abandoned_after,
            abandoned_resume_allowed=abandoned_resume_allowed,
        )
        self.callcenter.queues[name] = queue
        keys: tuple[Application, ...] = (("set", f"cc_exit_keys={exit_keys}"),) if exit_keys else ()
        if extension:
            self.add_extension(
                extension,
                ("set", "hangup_after_bridge=true"),
                ("answer", ""),
                *keys,
                ("callcenter", name),
                *then,
            )
        if did is not None:
            self.add_extension(did, ("transfer", f"{extension} XML default"))
        return queue

    def add_extension(self, number: str, *applications: Application) -> None:
        """A piece of dialplan: what happens to whoever calls `number`."""
        self.house.extensions[number] = applications

    def install(self, *files: Path) -> None:
        """Put files into the dialplan, as an administrator does: XML, read as mod_dialplan_xml reads it."""
        for file in files:
            self.house.dialplan += dialplan.read(file)

    def add_agent(
        self,
        name: str,
        contact: str = "",
        *,
        status: str = "Available",
        wrap_up_time: int = 0,
        reject_delay_time: int = 3,
        busy_delay_time: int = 3,
        no_answer_delay_time: int = 0,
        max_no_answer: int = 3,
        behaviour: Behaviour | None = None,
    ) -> Agent:
        agent = Agent(
            name,
            contact or f"sofia/internal/{name.partition('@')[0]}@127.0.0.1:5090",
            status,
            wrap_up_time=wrap_up_time,
            reject_delay_time=reject_delay_time,
            busy_delay_time=busy_delay_time,
            no_answer_delay_time=no_answer_delay_time,
            max_no_answer=max_no_answer,
            last_status_change=int(self.clock.now()),
        )
        self.roster.agents[name] = agent
        self.set_behaviour(name, behaviour or Answers(after=0.6))
        return agent

    def add_tier(self, queue: str, agent: str, *, level: int = 1, position: int = 1) -> None:
        self.roster.tiers.append(Tier(queue, agent, level, position))

    def agent(self, name: str) -> Agent:
        """The agent's row: `.status`, `.state`, `.wrap_up_time`, …"""
        return self.roster.agents[name]

    def set_status(self, agent: str, status: str) -> None:
        if status not in STATUSES:
            raise ValueError(f"no such status: {status!r}, only {', '.join(STATUSES)}")
        self.roster.set_status(agent, status)

    def user_of(self, agent: str) -> str:
        """The user part of the agent's contact, whose phone it is."""
        contact = parse_dial_string(self.roster.agents[agent].contact, lambda _note: None)
        endpoint = contact.groups[0][0].endpoint
        return (
            endpoint.rpartition("/")[2].partition("@")[0]
            if endpoint.count("/") > 1
            else endpoint[5:].partition("@")[0]
        )

    def set_behaviour(self, agent: str, behaviour: Behaviour) -> None:
        """What the agent's phone does from now on when it rings."""
        self.phones.install(self.user_of(agent), ("agent", agent), behaviour)

    def phone_log(self, agent: str) -> list[Ring]:
        """What the agent's phone showed, each time it rang."""
        return self.phones.at(self.user_of(agent)).rings

    # The people outside

    def client(self, number: str, behaviour: Behaviour) -> None:
        """How an outside number reacts when it is dialled."""
        self.phones.clients[number] = behaviour

    def default_client(self, behaviour: Behaviour | ClientRule) -> None:
        """How every other outside number reacts."""
        if callable(behaviour):
            self.phones.rule = behaviour
        else:
            self.phones.rule = lambda _number, _random: behaviour

    def call(
        self,
        number: str,
        *,
        to: str = "3000",
        name: str = "Lab Caller",
        gives_up_after: float | None = None,
        presses_key: tuple[float, str] | None = None,
        requests_callback: bool = False,
        dialled: str | None = None,
        hangs_up_after_talk: float | None = 5.0,
        variables: dict[str, str] | None = None,
        world_legs: bool | None = None,
    ) -> Call:
        """Somebody calls in, for instance into the queue behind `to`.

        `dialled`: the outside number that they dialled, which the dialplan transfers to `to`.
        `requests_callback`: the dialplan sends `callback::request` for a caller who left the queue by
        `presses_key`. `variables` are set on the leg by the dialplan, on its way.
        """
        given: tuple[Application, ...] = tuple(
            ("set", dialplan.Given(f"{key}={value}")) for key, value in (variables or {}).items()
        )
        plan: tuple[Application, ...] | None = None
        if requests_callback:
            steps = list(self.house.of_extension(to))
            key = presses_key[1] if presses_key else "1"
            at = next(at for at, step in enumerate(steps) if step[0] == "callcenter")
            steps[at + 1 : at + 1] = [("event", "Event-Name=CUSTOM,Event-Subclass=callback::request")]
            steps[at:at] = [("set", f"cc_exit_keys={key}")]
            plan = (*given, *steps)
        elif dialled is not None:
            plan = (*given, ("transfer", f"{to} XML default"))
        elif given:
            plan = (*given, *self.house.of_extension(to))
        call = Call(self, number, name, plan)
        call.begin(dialled or to, gives_up_after, presses_key, hangs_up_after_talk, world_legs)
        return call

    def direct_call(
        self,
        number: str,
        to_extension: str = "mute7002",
        *,
        name: str = "Lab Caller",
        behaviour: Behaviour | None = None,
        rings: int = 5,
        gives_up_after: float | None = None,
        hangs_up_after_talk: float | None = 3.0,
        hook: bool = False,
        world_legs: bool | None = None,
    ) -> Call:
        """Somebody calls an extension. `hook`: the dialplan sends `callback::missed` when nobody was
        reached."""
        if behaviour is not None:
            self.phones.install(to_extension, ("phone", to_extension), behaviour)
        elif not self.phones.of_the_house(to_extension):
            self.phones.install(to_extension, ("phone", to_extension), Silent())
        ring: tuple[Application, ...] = (
            ("set", f"call_timeout={rings}"),
            ("set", "hangup_after_bridge=true"),
            ("bridge", f"sofia/internal/{to_extension}@127.0.0.1:5090"),
        )
        if hook:
            operator = "".join(filter(str.isdigit, to_extension))
            missed = f"Event-Name=CUSTOM,Event-Subclass=callback::missed,Callback-Operator={operator}"
            ring = (
                ("set", "continue_on_fail=true"),
                *ring,
                ("db", "insert/callback/${uuid}/missed"),
                ("event", missed),
                ("hangup", "NO_ANSWER"),
            )
        call = Call(self, number, name, ring)
        call.begin(to_extension, gives_up_after, None, hangs_up_after_talk, world_legs)
        return call

    def call_out(
        self,
        agent: str,
        number: str,
        *,
        gateway: str = "main",
        domain: str | None = None,
        hangs_up_after_talk: float | None = None,
    ) -> Call:
        """An agent calls an outside number from their own, registered phone, which is busy meanwhile.

        `domain`: the one that the phone is registered in; else the domain of the agent's name.
        """
        user = self.user_of(agent)
        plan: tuple[Application, ...] = (
            ("set", f"user_name={user}"),
            ("set", f"domain_name={domain or agent.partition('@')[2]}"),
            ("set", "hangup_after_bridge=true"),
            ("bridge", f"sofia/gateway/{gateway}/{number}"),
        )
        call = Call(self, user, agent, plan, self.phones.at(user))
        call.begin(number, None, None, hangs_up_after_talk, None)
        return call

    # What it was told to do

    @property
    def dialled(self) -> list[Dialled]:
        """Each outside number that a command made it dial, and whether as the first leg or by its bridge."""
        return self.dialler.dialled

    def live_calls(self, number: str) -> int:
        """How many legs to this number are up now, of those in `dialled`."""
        return self.dialler.live.get(number, 0)

    def most_live_calls(self, number: str) -> int:
        """How many were up at the same time, at the worst moment."""
        return self.dialler.peak.get(number, 0)

    def _note(self, what: str) -> None:
        self.executed.append(what)
        self.changed()

    def _talked(self, bridge: Bridge, ended: float) -> None:
        parties = dict([bridge.a.party, bridge.b.party])
        agent = parties.get("agent") or parties.get("phone") or ""
        started = bridge.talked_from
        self.talks.append(Talk(parties.get("number", ""), agent, ended - started, started, ended))

    def changed(self) -> None:
        """Something is different: whoever waits in `wait_for` looks again."""
        for waiting in self._waiting:
            waiting.set()

    def wait_for(self, predicate: Callable[[], object], timeout: float = 5.0) -> bool:
        """Wait until something holds; looked at whenever anything has changed here. False: not in time."""
        woken = Event()
        self._waiting.append(woken)
        deadline = gevent.Timeout(timeout)
        deadline.start()
        try:
            while not predicate():
                woken.wait()
                woken.clear()
        except gevent.Timeout as late:
            if late is not deadline:
                raise
            return bool(predicate())
        finally:
            deadline.close()
            self._waiting.remove(woken)
        return True

    # The Event Socket

    def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; gives the port."""
        self._host = host
        self.clock.start()
        self.port = self.server.listen(host, port)
        return self.port

    def stop(self) -> None:
        """Shut down: for the clients an end of file and nothing else (`shutdown`)."""
        self.server.stop_listening()
        self.server.cut_all()
        self.server.voice.set()
        self.clock.stop()

    def attach(self, write: Callable[[bytes], None], close: Callable[[], None] = lambda: None) -> Session:
        """A client without a socket: give its bytes to `receive`, `write` gets the answer's frames."""
        session = Session(self, write, close)
        self._sessions.append(session)
        return session

    @property
    def clients(self) -> int:
        """How many are connected and logged in."""
        return len(self.bus.listeners)

    def heard(self, frame: str) -> None:
        self.commands.append((self.clock.now(), frame))
        self.changed()

    def new_uuid(self) -> str:
        return self.switch.new_uuid()

    def commands_run(
        self, command: str, reply: Callable[[str], None], *, text: str = "", job: str = ""
    ) -> None:
        self._api.run(command, reply, text=text, job=job)
        self.changed()

    def api(self, command: str) -> str:
        """Run a command as if at FreeSWITCH's own console; only for those that answer at once."""
        replies: list[str] = []
        self.commands_run(command, replies.append)
        return replies[0] if replies else ""

    def background(self, command: str, job: str, frame: str) -> None:
        """`bgapi`: run a command on its own, and say how it ended in a BACKGROUND_JOB."""
        self.switch.after(
            0,
            lambda: self.commands_run(
                command, lambda text: self.job_done(job, command, text), text=frame, job=job
            ),
        )

    def job_done(self, job: str, command: str, text: str) -> None:
        body = text or "-ERR no reply\n"
        self.bus.fire(
            "BACKGROUND_JOB", lambda: background_job(job, command), body=body, source="mod_event_socket.c"
        )

    # Faults

    def _boot(self) -> None:
        self.switch.boot()
        self._api.boot()
        self.switch.after(self.heartbeat, self._heartbeat)

    def _heartbeat(self) -> None:
        self.bus.fire(
            "HEARTBEAT",
            lambda: [
                "Event-Info: System%20Ready",
                header("Session-Count", len(self.switch.channels)),
                header("Session-Since-Startup", self.switch.sessions),
                "Max-Sessions: 5000",
                "Idle-CPU: 99.633333",
            ],
            source="switch_core.c",
        )
        self.switch.after(self.heartbeat, self._heartbeat)

    def cut_connections(self) -> None:
        """End of file for every client; FreeSWITCH itself lives on."""
        self.server.cut_all()

    def refuse_connections(self, refuse: bool = True) -> None:
        """Nobody can connect (again); those who are connected stay."""
        if refuse:
            self.server.stop_listening()
        else:
            self.server.listen(self._host, self.port)

    def mute(self, mute: bool = True) -> None:
        """Say nothing more, without closing anything; what is not said waits."""
        if mute:
            self.server.voice.clear()
        else:
            self.server.voice.set()

    def hold_replies(self) -> None:
        """Run commands, but keep their replies back; events go out."""
        self.holding_replies = True

    def release_replies(self) -> None:
        self.holding_replies = False
        for session in [*self._sessions, *(connection.session for connection in self.server.connections)]:
            session.release_replies()

    def crash(self) -> None:
        """`kill -9`: every call gone without an event, agents Waiting, `hash` lost, `db` kept; nobody
        listens until `restart`."""
        self.server.stop_listening()
        for session in [*self._sessions, *(connection.session for connection in self.server.connections)]:
            session.part()
            session.forget()
        self._sessions.clear()
        self.bus.listeners.clear()
        self.server.cut_all()
        self.server.voice.set()
        self.holding_replies = False
        self.phones.hang_up_all()
        self.dialler.live.clear()
        self.callcenter.boot()
        self.store.lose_memory()
        self._boot()
        for call in list(self.calls):
            call.lost()
        self.changed()

    def restart(self) -> None:
        """Start again after a crash; one that is up crashes first. Another Core-UUID, the same port."""
        if self.server.listening:
            self.crash()
        if self.port:
            self.server.listen(self._host, self.port)
