"""One running engine: the ledger, the nodes, and what connects them."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent
import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core import capture
from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Event
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.engine.gatekeeper import Gatekeeper
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.engine.recaller import LEASE, Recaller, RecallRules
from freeswitch_callback.engine.reconciler import Reconciler
from freeswitch_callback.engine.recorder import Recorder
from freeswitch_callback.errors import DatabaseUnreachable, FreeSwitchError, UnsafeValue
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Ledger

log = structlog.get_logger(__name__)

EVENTS = (*capture.EVENTS, "BACKGROUND_JOB", "HEARTBEAT")
_RECONCILE_EVERY = 60.0
"""Seconds; sooner, `second_look`, while something is in doubt or another engine's lease may end."""
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

    `second_look`: see `Reconciler`. `finishing`: what a stopping engine gives to attempts that are neither
    sent nor given back; with what closing takes on top, it ends within 10 s.
    """

    capture: CaptureRules
    gates: Callable[[str | None], GateRules]
    recall: Callable[[str], RecallRules]
    poll: float = 5.0
    second_look: float = 10.0
    finishing: float = 6.0


class Engine:
    """Records and calls back until it is stopped.

    `run()` returns after `stop()`: no new recalls, those that talk go on at FreeSWITCH, agents without a call
    are released. The next engine follows what is still up.
    """

    def __init__(
        self,
        ledger: Ledger,
        nodes: Sequence[NodeAddress],
        rules: EngineRules,
        *,
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
        self.gatekeeper = Gatekeeper(lambda queue: self.rules.gates(queue), self._on_the_line)
        self.sites = [_Site(address, self) for address in nodes]

    def run(self) -> None:
        patiently(self._ledger.migrate, what="open the database", stopping=self._stopping, clock=self.clock)
        log.info("engine_started", engine=self.name, nodes=[site.node.name for site in self.sites])
        for site in self.sites:
            site.node.start()
        work = [
            gevent.spawn(task)
            for task in (self._recall, self._keep_leases, self._reconsider, *(s.watch for s in self.sites))
        ]
        self.ready.set()
        try:
            while not self._stopping.is_set():
                gevent.wait([self._stopping, *work], count=1)
                for task in [task for task in work if task.ready()]:
                    task.get()  # what ended it is ours to raise: nobody else would say so
                    work.remove(task)
        finally:
            self.stop()
            gevent.killall(work, block=False)
            self._finish()

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

    def wake(self, *, recalls: bool = True) -> None:
        """Something may be possible now: a recall may be due, or else (`recalls` False) an agent be free."""
        self._recalls_changed = self._recalls_changed or recalls
        self._wake.set()

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
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                wait = self._round()
                now = self.clock.monotonic()
                if now - expired >= self._rules.poll:  # a write: not between an agent and a call
                    expired = now
                    self._ledger.expire()
            except DatabaseUnreachable as error:
                log.error("recalls_paused", error=str(error))
                wait = self._rules.poll
            self.clock.wait(self._wake, wait)

    def _round(self) -> float:
        """One look at all nodes, if anything can be due; seconds until the next is due by itself."""
        now = self.clock.monotonic()
        if now < self._next_look and not self._recalls_changed:
            return self._next_look - now  # whoever has become free: there is nothing to start
        self._recalls_changed, self._next_look = False, 0.0
        free_at = [at for site in self.sites if site.up and (at := site.recaller.round()) is not None]
        due = self._ledger.next_due()
        waits = [self._rules.poll, *(at - self.clock.time() for at in free_at)]
        if due is None or due > 0:
            waits.append(self._rules.poll if due is None else due)
            self._next_look = now + min(waits[0], waits[-1])
        return max(min(waits), 0.01)

    def _on_the_line(self, number: str, rules: NumberRules) -> bool:
        return any(site.recaller.switchboard.on_the_line(number, rules) for site in self.sites)

    def _reconsider(self) -> None:
        """The gates may say something else than when the recalls that wait were last looked at."""
        patiently(
            self._ledger.reconsider, what="look at all gates anew", stopping=self._stopping, clock=self.clock
        )
        self.wake()

    def _keep_leases(self) -> None:
        while not self.clock.wait(self._stopping, LEASE / 3):
            try:
                self._ledger.renew(self.name, LEASE)
            except DatabaseUnreachable as error:
                log.error("leases_not_renewed", error=str(error))

    def _finish(self) -> None:
        """Within 10 s: what was not sent is given back; what is up is left to the next engine, at once."""
        deadline = self.clock.monotonic() + self._rules.finishing
        while any(site.recaller.in_between for site in self.sites) and self.clock.monotonic() < deadline:
            self._wake.clear()
            self.clock.wait(self._wake, 0.1)
        gevent.joinall([gevent.spawn(site.node.stop, 1.0) for site in self.sites], timeout=1.5)
        try:
            with gevent.Timeout(1.0, False):
                self._ledger.renew(self.name, 0.0)
        except DatabaseUnreachable as error:
            log.error("leases_not_given_back", error=str(error))
        log.info("engine_stopped", under_way=sum(len(site.recaller.attempts) for site in self.sites))


class _Site:
    """One node with its recorder, recaller and reconciler."""

    def __init__(self, address: NodeAddress, engine: Engine) -> None:
        rules = engine.rules
        self._engine = engine
        self._clock = engine.clock
        self._core_uuid: str | None = None
        self._look_now = Flag()
        self._reconcile_at = 0.0
        self._lost_at = 0.0
        self.up = False
        self.node = Node(
            address.name,
            address.host,
            address.port,
            address.password,
            on_event=self._event,
            on_up=self._on_up,
            on_down=self._on_down,
            subscribe=EVENTS,
            subclasses=capture.SUBCLASSES,
        )
        self.recorder = Recorder(
            address.name,
            engine.ledger,
            rules.capture,
            lambda queue: engine.rules.gates(queue),
            engine.wake,
            engine.stopping,
            self._clock,
            min_talk=lambda queue: engine.rules.recall(queue or "").retry.min_talk,
            remember_agent=lambda queue: engine.rules.recall(queue or "").prefer_agent > 0,
        )
        self.recaller = Recaller(
            self.node,
            engine.ledger,
            engine.name,
            lambda queue: engine.rules.recall(queue),
            engine.gatekeeper,
            engine.stopping,
            engine.wake,
            self._clock,
        )
        self.reconciler = Reconciler(
            self.node, engine.ledger, engine.name, self.recaller, rules.second_look, self._clock
        )

    def reload(self, rules: EngineRules) -> None:
        self.recorder.reload(rules.capture)

    def _event(self, event: Event) -> None:
        try:
            self.recorder.feed(event)
        finally:  # an agent's or an attempt's news, whatever the recorder thinks of it
            if self.recaller.feed(event):
                self._engine.wake(recalls=False)

    def _on_up(self) -> None:
        if self._core_uuid not in (None, self.node.core_uuid):
            self.recorder.freeswitch_went_away(self._lost_at)
        self._core_uuid = self.node.core_uuid
        self._reconcile_at = 0.0
        self._look_now.set()

    def _on_down(self, reason: str) -> None:
        self.up = False
        self._lost_at = self._clock.time()

    def watch(self) -> None:
        """Look at the node when it has come up, and at every poll; a slow node holds up no other."""
        while not self._engine.stopping.is_set():
            self._look_now.clear()
            if self.node.up.is_set():
                self._look()
            self._clock.wait(self._look_now, self._engine.rules.poll)

    def _look(self) -> None:
        """Read agents, tiers, callers and channels; when just connected, and every minute, reconcile."""
        switchboard = self.recaller.switchboard
        try:
            switchboard.sync(self.node)
            self.recorder.keep(switchboard.channels, self._clock.time() - _FORGET_AFTER)
            if self._clock.monotonic() >= self._reconcile_at:
                soon = self.reconciler.run(self._lost_at)
                again = self._engine.rules.second_look if soon else _RECONCILE_EVERY
                self._reconcile_at = self._clock.monotonic() + again
        except (FreeSwitchError, DatabaseUnreachable, UnsafeValue) as error:
            log.warning("node_not_read", node=self.node.name, error=str(error))
            return
        self.up = self.node.up.is_set()
        self._engine.wake()
