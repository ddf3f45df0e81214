"""One running engine: the ledger, the nodes, and what connects them."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf

import gevent
import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core import capture
from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.catchup import Heard
from freeswitch_callback.core.facts import ClosedAs, Decision, Due, Event
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.alarms import Alarms, Name
from freeswitch_callback.engine.attempts import RecallRules, note_rests
from freeswitch_callback.engine.catchup import CatchUp
from freeswitch_callback.engine.cdr_folder import CdrFolder
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.engine.figures import Figures
from freeswitch_callback.engine.gatekeeper import Gatekeeper
from freeswitch_callback.engine.line import Line
from freeswitch_callback.engine.loops import Loops
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.engine.recaller import LEASE, Recaller
from freeswitch_callback.engine.reconciler import Reconciler
from freeswitch_callback.engine.recorder import Recorder
from freeswitch_callback.engine.reported import WITHOUT_A_WORD, Reported
from freeswitch_callback.engine.switchboard import Unhurried
from freeswitch_callback.errors import DatabaseUnreachable, FreeSwitchError, SchemaTooNew, UnsafeValue
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.spool import Spool

log = structlog.get_logger(__name__)

EVENTS = (*capture.EVENTS, "BACKGROUND_JOB", "HEARTBEAT")
_RECONCILE_EVERY = 60.0
"""Seconds; sooner, `second_look`, while something is in doubt, and when another engine's lease ends."""
_SURELY_OVER = 0.1
"""Seconds after the end of a lease: it was measured by another clock, and a moment ago."""
_A_MOMENT = 0.1
"""Seconds before a look that count as its course: the database reads its clock a moment after us."""
_TURN_TAKES, _LOOK_TAKES = 60.0, 300.0
"""Seconds after which a turn of a loop hangs: one that asks the database, and one that also asks FreeSWITCH,
which is much where many recalls are up, and answers slowly when it is busy."""
_FORGET_AFTER = 3600.0
"""Seconds without a word after which a leg that FreeSWITCH does not know any more is forgotten."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    name: str
    host: str
    port: int
    password: str


@dataclass(frozen=True, slots=True)
class EngineRules:
    """All that a configuration says to an engine. Times in seconds.

    `queues`: those that `gates` and `recall` have rules of their own for; all others go by those of none.
    `cdr_folders`: by a node's name, where its CDRs are.
    `second_look`: see `Reconciler`. `settle`: how long after its poll another engine has written how far
    it heard a node. `finishing`: what a stopping engine gives to attempts that are neither
    sent nor given back; with what closing takes on top, it ends within 10 s.
    `without_a_word`: see `reported`.
    """

    capture: CaptureRules
    gates: Callable[[str | None], GateRules]
    recall: Callable[[str], RecallRules]
    poll: float = 5.0
    second_look: float = 10.0
    settle: float = 1.0
    finishing: float = 6.0
    without_a_word: float = WITHOUT_A_WORD
    lease: float = LEASE
    queues: Collection[str] = ()
    cdr_folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Engine:
    """Records and calls back until it is stopped.

    `run()` returns after `stop()`: no new recalls, those that talk go on at FreeSWITCH, agents without a call
    are released. The next engine follows what is still up.

    `spools`, by node: where what happens is recorded while the database is away. They stay the caller's, to
    be closed after `run`. Without one a node waits for the database.
    """

    def __init__(
        self,
        ledger: Ledger,
        nodes: Sequence[NodeAddress],
        rules: EngineRules,
        *,
        spools: Mapping[str, Spool] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{random.randrange(16**4):04x}"
        self.ready = Flag()
        self._ledger = ledger
        self._rules = rules
        self.clock = clock
        self._stopping = Flag()
        self._wake = Flag()
        self._recalls_changed = False
        self._next_look = 0.0  # nothing of what we know is due before (monotonic)
        self._pages: set[str] = set()  # agents who have their page open, on whatever engine
        self.alarms = Alarms(clock)
        self.figures = Figures()
        self.loops = Loops(clock)
        self.gatekeeper = Gatekeeper(lambda queue: self.rules.gates(queue), self._on_the_line)
        self.line = Line(ledger, lambda: self.rules.poll, self._prepare, self._let_calls_be_ordered, clock)
        self.sites = [_Site(address, self, (spools or {}).get(address.name)) for address in nodes]

    def run(self) -> None:
        work: list[gevent.Greenlet] = []
        try:
            self._open()
            log.info("engine_started", engine=self.name, nodes=[site.node.name for site in self.sites])
            for site in self.sites:
                site.node.start()
            tasks = [self._recall, self._keep_lines, self._keep_leases, self._reconsider, self._listen]
            for site in self.sites:
                tasks += [site.watch, site.cdrs.run, site.recorder.drain]
            work = [gevent.spawn(task) for task in tasks]
            self.ready.set()
            while not self._stopping.is_set():
                gevent.wait([self._stopping, *work], count=1)
                for task in [task for task in work if task.ready()]:
                    task.get()  # what ended it is ours to raise: nobody else would say so
                    work.remove(task)
        finally:
            self.stop()
            gevent.killall(work, block=False)
            self._finish()

    def _open(self) -> None:
        """The database, as soon as it is there. Where there is a spool, recording does not wait for it."""
        try:
            self._ledger.migrate()
        except SchemaTooNew as error:
            self.alarms.raise_(Name.SCHEMA_TOO_NEW, self._ledger.name, str(error))
            raise
        except DatabaseUnreachable:
            for site in self.sites:
                if site.recorder.spools:
                    site.node.start()
            patiently(
                self._ledger.migrate, what="open the database", stopping=self._stopping, clock=self.clock
            )

    def reload(self, rules: EngineRules) -> None:
        """Go by other rules from now on: what is recorded and decided next, and the recalls that wait. Those
        that are up keep what they were called with."""
        self._rules = rules
        for site in self.sites:
            site.reload(rules)
        self._reconsider()

    def stop(self) -> None:
        """Ask `run` to return. Safe in a signal handler."""
        self._stopping.set()
        self._wake.set()

    def wake(self) -> None:
        """What is on record, or what the gates go by, has changed: something else may be possible now."""
        self.line.changed()
        self.look()

    def look(self, *, recalls: bool = True) -> None:
        """Something may be possible now: a recall may be due, or else (`recalls` False) an agent be free."""
        if recalls:
            self.recalls_changed()
        self._wake.set()

    def recalls_changed(self) -> None:
        """A recall may be due before anything that is known of."""
        self._recalls_changed = True

    @property
    def pages(self) -> Set[str]:
        """The agents who have their page open; it changes."""
        return self._pages

    @property
    def stopping(self) -> Flag:
        return self._stopping

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def rules(self) -> EngineRules:
        return self._rules

    def _recall(self) -> None:
        """Wake on events; as the safety net, on the poll; and when an agent or a recall comes due."""
        expired = 0.0
        loop = self.loops.add("recalls")
        while not self._stopping.is_set():
            loop.turns(self._rules.poll + _TURN_TAKES)
            self._wake.clear()
            try:
                wait = self._round()
                now = self.clock.monotonic()
                if now - expired >= self._rules.poll:  # a write: not between an agent and a call
                    expired = now
                    self.figures.closed[ClosedAs.EXPIRED] += self._ledger.expire()
                    self._hear_decisions()
                    self.look_who_has_a_page()
            except DatabaseUnreachable as error:
                log.debug("recalls_paused", error=str(error))
                wait = self._rules.poll
            self.clock.wait(self._wake, wait)

    def _round(self) -> float:
        """One look at all nodes, if anything can be due; seconds until the next is due by itself."""
        if self.behind():
            return self._rules.poll  # somebody may have been served meanwhile; who drains it, wakes us
        now = self.clock.monotonic()
        if now < self._next_look and not self._recalls_changed:
            return self._next_look - now  # whoever has become free: there is nothing to start
        self._recalls_changed, self._next_look = False, 0.0
        rounds = [site.recaller.round() for site in self.sites if site.up]
        waits = [self._rules.poll, *(one.free_at - self.clock.time() for one in rounds if one.free_at)]
        if any(one.idle for one in rounds):  # else it does not matter when the next is due
            due = self._ledger.next_due()
            if due is not None and due <= 0:
                # For what was due already nobody is there; who is left may be there for what comes.
                looked_for = self.clock.monotonic() - now
                due = self._ledger.next_due(due_for=looked_for + _A_MOMENT)
                if due is not None:  # that moment may find one anew that nobody is there for
                    due = max(due, _A_MOMENT / 2)
            else:
                self._next_look = now + min(self._rules.poll, self._rules.poll if due is None else due)
            waits += [] if due is None else [due]
        return max(min(waits), 0.01)

    def _keep_lines(self) -> None:
        self.line.keep(self._stopping, self.loops.add("lines"), _TURN_TAKES)

    def _prepare(self, recall: Due) -> None:
        self.gatekeeper.read_ahead(recall, self.clock.now())

    def _let_calls_be_ordered(self) -> None:
        for site in self.sites:
            site.recaller.let_calls_be_ordered()

    def behind(self) -> bool:
        """Whether anything that happened is in a spool, and not in the database yet."""
        return any(site.recorder.behind for site in self.sites)

    def _on_the_line(self, number: str, rules: NumberRules) -> bool:
        return any(site.recaller.switchboard.on_the_line(number, rules) for site in self.sites)

    def numbers_on_the_line(self) -> Iterator[str]:
        """The other end of every channel that is up, on all nodes; as text."""
        return (number for site in self.sites for number in site.recaller.switchboard.numbers.values())

    def heard(self) -> Iterator[Heard]:
        """What events of all nodes told of calls lately."""
        return (heard for site in self.sites for heard in site.recorder.heard())

    def _reconsider(self) -> None:
        """The gates may say something else than when the recalls that wait were last looked at."""
        patiently(
            self._ledger.reconsider, what="look at all gates anew", stopping=self._stopping, clock=self.clock
        )
        self.wake()

    def _listen(self) -> None:
        """What other engines, commands and pages do; without a word from them the poll finds it."""

        def heard() -> None:
            self.wake()
            self._hear_decisions()

        self._ledger.listen(heard)

    def decide(self, agent: str, decision: Decision) -> bool:
        """An agent's word on a recall that is offered to them; see `Ledger.decide`."""
        decided = self._ledger.decide(agent, decision)
        if decided:
            self._hear_decisions()
        return decided

    def look_who_has_a_page(self) -> None:
        """Agents have opened or left their pages, perhaps."""
        try:
            pages = self._ledger.people.with_open_page()
        except DatabaseUnreachable as error:
            log.debug("pages_not_known", error=str(error), hint="they are asked for again")
            return
        came = pages - self._pages
        self._pages.clear()
        self._pages.update(pages)
        if came:
            self.look()

    def _hear_decisions(self) -> None:
        try:
            for site in self.sites:
                site.recaller.hear_decisions()
        except DatabaseUnreachable as error:
            log.debug("decisions_not_heard", error=str(error), hint="they are asked for again")

    def _keep_leases(self) -> None:
        loop = self.loops.add("leases")
        loop.turns(_TURN_TAKES)
        while not self.clock.wait(self._stopping, self._rules.lease / 3):
            since, lease = self.clock.monotonic(), self._rules.lease
            try:
                if any(site.recaller.ours for site in self.sites):
                    self._ledger.renew(self.name, lease)
                    for site in self.sites:
                        site.recaller.renewed(since, lease)
            except DatabaseUnreachable as error:
                log.warning("leases_not_renewed", error=str(error))
            loop.turns(_TURN_TAKES)

    def _finish(self) -> None:
        """Within 10 s: what was not sent is given back; what is up is left to the next engine, at once."""
        deadline = self.clock.monotonic() + self._rules.finishing
        for site in self.sites:
            site.recaller.ask_no_more()
        while any(site.recaller.in_between for site in self.sites) and self.clock.monotonic() < deadline:
            self._wake.clear()
            self.clock.wait(self._wake, 0.1)
        gevent.joinall([gevent.spawn(site.node.stop, 1.0) for site in self.sites], timeout=1.5)
        if not self.ready.is_set():  # there is no lease, and perhaps no table
            return
        draining = [gevent.spawn(site.recorder.finish) for site in self.sites]
        try:
            with gevent.Timeout(1.0, False):
                self._ledger.renew(self.name, 0.0)
                gevent.joinall(draining)
                for site in self.sites:
                    site.catchup.finish()
        except DatabaseUnreachable as error:
            log.error("leases_not_given_back", error=str(error))
        gevent.killall(draining)
        log.info("engine_stopped", under_way=sum(len(site.recaller.attempts) for site in self.sites))


class _Site:
    """One node with its recorder, recaller and reconciler."""

    def __init__(self, address: NodeAddress, engine: Engine, spool: Spool | None) -> None:
        rules = engine.rules
        self._engine = engine
        self._clock = engine.clock
        self._core_uuid: str | None = None
        self._look_now = Flag()
        self._reconcile_at = 0.0
        self._lease_ends_at = inf  # the next one of another engine, as far as is known (monotonic)
        self._lost_at = 0.0
        self._somebody_free = False
        self._last_event: Event | None = None
        self.up = False
        taking_in = engine.loops.add(f"events of {address.name}")
        self.node = Node(
            address.name,
            address.host,
            address.port,
            address.password,
            on_event=taking_in.watched(self._event, _TURN_TAKES),
            on_pause=taking_in.watched(self._pause, _TURN_TAKES),
            on_up=taking_in.watched(self._on_up, _TURN_TAKES),
            on_down=self._on_down,
            subscribe=EVENTS,
            subclasses=capture.SUBCLASSES,
        )
        self.recorder = Recorder(
            address.name,
            engine.ledger,
            rules.capture,
            lambda queue: engine.rules.gates(queue),
            engine.look,
            engine.stopping,
            self._clock,
            changed=engine.line.changed,
            spool=spool,
            draining=engine.loops.add(f"spool of {address.name}"),
            min_talk=lambda queue: engine.rules.recall(queue or "").retry.min_talk,
            remember_agent=lambda queue: engine.rules.recall(queue or "").prefer_agent > 0,
            figures=engine.figures,
        )
        self.recaller = Recaller(
            self.node,
            engine.ledger,
            engine.name,
            lambda queue: engine.rules.recall(queue),
            engine.gatekeeper,
            engine.stopping,
            self._recalls_changed,
            self._clock,
            engine.line,
            lease=rules.lease,
            figures=engine.figures,
        )
        self.recaller.switchboard.pages = engine.pages
        self.reported = Reported(
            self.node,
            engine.ledger,
            engine.alarms,
            record=self.recorder.take,
            behind=lambda: self.recorder.behind,
            was_not_missed=self.recorder.was_not_missed,
            patience=rules.without_a_word,
            clock=self._clock,
        )
        self.cdrs = CdrFolder(
            address.name,
            lambda: engine.rules.cdr_folders.get(address.name, ()),
            engine.ledger,
            lambda: engine.rules.capture,
            lambda queue: engine.rules.gates(queue),
            engine.wake,
            engine.stopping,
            self._clock,
            behind=engine.behind,
            told=self.reported.cdr_told,
            # A folder that hangs, of another machine perhaps, hangs as much after a start.
            loop=engine.loops.add(f"CDRs of {address.name}", vital=False),
        )
        self.reconciler = Reconciler(
            self.node, engine.ledger, engine.name, self.recaller, rules.second_look, self._clock
        )
        self.catchup = CatchUp(
            self.node,
            engine.ledger,
            record=self.recorder.take,
            behind=lambda: self.recorder.behind,
            capture=lambda: engine.rules.capture,
            numbers=lambda queue: engine.rules.gates(queue).numbers,
            live=engine.numbers_on_the_line,
            channels=lambda: self.recaller.switchboard.numbers,
            heard=engine.heard,
            last_answer=lambda: self.recaller.switchboard.last_answer,
            settle=rules.poll + rules.settle,
            clock=self._clock,
        )

    def reload(self, rules: EngineRules) -> None:
        self.recorder.reload(rules.capture)

    def _event(self, event: Event) -> None:
        self.catchup.takes_in()
        self._engine.figures.events[self.node.name] += 1
        # First who is on the line: while the recorder waits for the database, what it writes may be called.
        self._somebody_free |= self.recaller.feed(event)
        self._last_event = event
        self.recorder.hear(event)

    def _pause(self) -> None:
        """All that was received has been heard: put what it told on disk before anything else."""
        try:
            self.recorder.put()
        finally:
            if self._somebody_free:
                self._somebody_free = False
                self._give_out()
        if self._last_event is not None:
            self.catchup.took_in(self._last_event.timestamp)

    def _recalls_changed(self) -> None:
        """By us: one is closed, or waits again, and its agent may be free for the next."""
        self._engine.recalls_changed()
        self._give_out()

    def _give_out(self) -> None:
        """Somebody may be free: they are given the recall that is known to be next, or it is looked for."""
        if not self.up or self._engine.behind() or not self.recaller.start_at_once():
            self._engine.look(recalls=False)

    def _on_up(self) -> None:
        if self._core_uuid not in (None, self.node.core_uuid):
            self.recorder.freeswitch_went_away(self._lost_at)
        self._core_uuid = self.node.core_uuid
        self._reconcile_at = 0.0
        self.recorder.interrupted()
        self.recaller.interrupted()
        self.catchup.came_up()
        self._look_now.set()

    def _on_down(self, reason: str) -> None:
        self.up = False
        self._lost_at = self._clock.time()

    def watch(self) -> None:
        """Look at the node when it has come up, and at every poll; a slow node holds up no other."""
        loop = self._engine.loops.add(f"look at {self.node.name}")
        while not self._engine.stopping.is_set():
            loop.turns(self._engine.rules.poll + _LOOK_TAKES)
            self._look_now.clear()
            wait = self._engine.rules.poll
            if self.node.up.is_set() and self._look():
                lease_ends_in = self._lease_ends_at - self._clock.monotonic()
                wait = min(wait, self.catchup.due_in(), max(lease_ends_in, 0.0))
            self._clock.wait(self._look_now, wait)

    def _look(self) -> bool:
        """Read agents, tiers, callers and channels; reconcile when just connected, when another engine's
        lease has ended, and every minute. False if it could not be done."""
        switchboard = self.recaller.switchboard
        try:
            # What is known is right but for what was missed, unless it is the first look.
            switchboard.sync(Unhurried(self.node.aside, self._clock) if self.up else self.node.aside)
            self.recorder.keep(switchboard.channels, self._clock.time() - _FORGET_AFTER)
            lease_ended = self._lease_has_ended()
            if lease_ended or self._clock.monotonic() >= self._reconcile_at:
                soon = self.reconciler.run(self._lost_at)
                rules, now = self._engine.rules.recall, self._clock.now()
                note_rests(switchboard, self._engine.ledger, self.node.name, rules, now)
                again = self._engine.rules.second_look if soon else _RECONCILE_EVERY
                self._reconcile_at = self._clock.monotonic() + again
                self._engine.line.changed()
        except (FreeSwitchError, DatabaseUnreachable, UnsafeValue) as error:
            log.warning("node_not_read", node=self.node.name, error=str(error))
            return False
        self.up = self.node.up.is_set()
        self._engine.look()
        self._catch_up()
        self._collect()
        return True

    def _lease_has_ended(self) -> bool:
        """Whether an attempt at this node is to be taken over; else `watch` looks again when one may be."""
        self._lease_ends_at = inf
        left = self._engine.ledger.next_lease_end(self.node.name, but=self._engine.name)
        if left is None:
            return False
        if left > -_SURELY_OVER:
            self._lease_ends_at = self._clock.monotonic() + left + _SURELY_OVER
        return left <= -_SURELY_OVER

    def _catch_up(self) -> None:
        try:
            self.catchup.run()
        except (FreeSwitchError, DatabaseUnreachable) as error:
            log.warning("not_caught_up", node=self.node.name, error=str(error))

    def _collect(self) -> None:
        try:
            self.reported.look()
        except (FreeSwitchError, DatabaseUnreachable, UnsafeValue) as error:
            log.warning("reported_not_collected", node=self.node.name, error=str(error))
