"""Looks whether the engine is well, tells the service manager, and raises alarms.

Who is killed for silence must be silent when it hangs: the sign of life is sent from here, out of gevent's
hub, and only while every vital loop of the engine goes round. So a hub that stands still says nothing either.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import gevent
import structlog
from gevent import monkey

from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.engine.alarms import Name
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.engine.systemd import Systemd
from freeswitch_callback.errors import DatabaseError, DatabaseReadOnly, DiskFull, SchemaTooNew
from freeswitch_callback.ledger.limits import Breaker
from freeswitch_callback.operations import machine

sleep, start_new_thread = (
    monkey.get_original("time", "sleep"),
    monkey.get_original("_thread", "start_new_thread"),
)
log = structlog.get_logger(__name__)

TURN = 1.0
_TURN_UNTIL_READY = 0.05
LOOK = 30.0
"""Seconds between two looks at what has to be asked of the database and the disks."""

READY_AFTER = 10.0
"""Seconds after which the service counts as started, wherever it still waits for somebody."""

AWAY_AFTER = 5.0
"""Seconds without a FreeSWITCH after which somebody has to know."""

JUMP = 5.0
"""Seconds by which the clock may differ from what it should be one turn later."""
JUMP_TOLD_FOR = 600.0

BLOCKED = 1.0
"""Seconds for which the hub may stand still without a word in the log."""

LATE = 5.0
"""Seconds between two turns after which the process itself stood still."""

_OF_DATABASE = (Name.DISK_FULL, Name.DATABASE_READ_ONLY, Name.SCHEMA_TOO_NEW, Name.DATABASE_AWAY)

T = TypeVar("T")


class Watchdog:
    """Of one engine, as long as its greenlet lives. `folders`: where files of ours grow."""

    def __init__(self, engine: Engine, systemd: Systemd, folders: Collection[Path] = ()) -> None:
        self._engine = engine
        self._systemd = systemd
        self._folders = tuple(dict.fromkeys(folders))
        self._clock = engine.clock
        self._alarms = engine.alarms
        self._began = self._clock.monotonic()
        self._up_at = {site.node.name: self._began for site in engine.sites}
        self._offset = self._clock.time() - self._began
        self._jumped_at = 0.0
        self._trouble: object = None
        self._alive_at = self._began  # loops that were to be heard of before are not missed (monotonic)
        self._turned_at = self._began
        self._next_sign = 0.0
        self._schema: DatabaseError | None = None
        self._tripped: dict[str, datetime] = {}  # by prefix: when its breaker did
        self._ready = False
        self._waiting: int | None = None
        self._status = ""

    def run(self) -> None:
        """Until it is killed."""
        beside = [gevent.spawn(self._look_on), gevent.spawn(watch_hub)]
        turn = TURN if self._systemd.watchdog is None else min(TURN, self._systemd.watchdog / 4)
        try:
            while not self._engine.stopping.is_set():
                self.turn()
                self._clock.wait(self._engine.stopping, turn if self._ready else _TURN_UNTIL_READY)
            self._systemd.stopping()
            while True:  # stopping has a deadline of its own
                self._systemd.alive()
                gevent.sleep(turn)
        finally:
            gevent.killall(beside)

    def turn(self) -> None:
        """One look at what is in memory; then say that all is well, if it is."""
        now = self._clock.monotonic()
        if now - self._turned_at > LATE:
            self._alive_at = now  # who stood still cannot say of others that they did
        self._turned_at = now
        self._database(now)
        self._nodes(now)
        self._spools()
        self._clock_jumps(now)
        stuck = self._engine.loops.overdue(self._alive_at)
        self._alarms.only(
            Name.LOOP_STUCK, {name: f"has not turned for {silent:.0f} s" for name, silent in stuck.items()}
        )
        if not self._ready and self._started(now):
            self._ready = True
            self._systemd.ready()
        every = self._systemd.watchdog
        alive = self._engine.loops.alive(self._alive_at)
        if every is not None and alive and now >= self._next_sign:
            self._next_sign = now + every / 2
            self._systemd.alive()
        if (status := self.status()) != self._status:
            self._status = status
            self._systemd.status(status)

    def _started(self, now: float) -> bool:
        """The database was opened and every FreeSWITCH connected to, or tried in vain: whoever waits for this
        service waits for nobody who is away."""
        tried = self._engine.ready.is_set() or self._engine.ledger.trouble is not None
        nodes = all(site.node.tried for site in self._engine.sites)
        return (tried and nodes) or now - self._began >= READY_AFTER

    def status(self) -> str:
        """One line, for people."""
        nodes = [(site.node.name, site.node.up.is_set()) for site in self._engine.sites]
        away = [name for name, up in nodes if not up]
        told = [f"{len(nodes) - len(away)} of {len(nodes)} FreeSWITCH up"]
        told += [f"away: {', '.join(away)}"] if away else []
        told += ["database away"] if self._engine.ledger.trouble is not None else []
        told += [f"{spooled} facts in the spool"] if (spooled := self._spooled()) else []
        told += [f"{self._waiting} recalls waiting"] if self._waiting is not None else []
        told.append(f"{sum(len(site.recaller.attempts) for site in self._engine.sites)} being called")
        alarms = {str(alarm.name): None for alarm in self._alarms.active()}
        told += [f"alarms: {', '.join(alarms)}"] if alarms else []
        return "; ".join(told)

    # --- each turn -----------------------------------------------------------------------------------------

    def _database(self, now: float) -> None:
        ledger = self._engine.ledger
        trouble = ledger.trouble
        if trouble is not None and trouble is not self._trouble:
            self._alive_at = now  # a try in vain: whoever waits for the database is alive
        self._trouble = trouble
        error = self._schema if trouble is None else trouble.error
        name = None if error is None else _alarm_of(error)
        for other in _OF_DATABASE:
            if other is not name:
                self._alarms.clear(other, ledger.name)
        if name is not None:
            self._alarms.raise_(name, ledger.name, str(error))

    def _nodes(self, now: float) -> None:
        for site in self._engine.sites:
            name = site.node.name
            if site.node.up.is_set():
                self._up_at[name] = now
                self._alarms.clear(Name.FREESWITCH_AWAY, name)
            elif now - self._up_at[name] >= AWAY_AFTER:
                self._alarms.raise_(Name.FREESWITCH_AWAY, name, site.node.why_down)

    def _spools(self) -> None:
        waiting = {site.node.name: site.recorder.behind for site in self._engine.sites}
        self._alarms.only(
            Name.SPOOLING,
            {node: f"{facts} facts wait for the database" for node, facts in waiting.items() if facts},
        )

    def _spooled(self) -> int:
        return sum(site.recorder.behind for site in self._engine.sites)

    def _clock_jumps(self, now: float) -> None:
        """Also what a machine that slept sees: its monotonic clock slept with it."""
        offset = self._clock.time() - now
        jump, self._offset = offset - self._offset, offset
        if abs(jump) > JUMP:
            self._jumped_at = now
            self._alarms.clear(Name.CLOCK_JUMPED, "this machine")  # another one is told anew
            self._alarms.raise_(
                Name.CLOCK_JUMPED, "this machine",
                f"the clock went {abs(jump):,.0f} s {'forward' if jump > 0 else 'back'} at a stroke",
            )  # fmt: skip
        elif now - self._jumped_at > JUMP_TOLD_FOR:
            self._alarms.clear(Name.CLOCK_JUMPED, "this machine")

    # --- what has to be asked, in a greenlet of its own ----------------------------------------------------

    def _look_on(self) -> None:
        self.look()
        while not self._engine.ready.wait(LOOK):
            self.look()
        while True:
            self.look()
            gevent.sleep(LOOK)

    def look(self) -> None:
        """Ask the disks and, once it is open, the database; what is wrong with that, `turn` tells."""
        self._disks()
        if not self._engine.ready.is_set():
            return
        try:
            self._ask(self._engine)
        except DatabaseError:
            self._waiting = None

    def _ask(self, engine: Engine) -> None:
        try:
            engine.ledger.verify()
        except SchemaTooNew as error:  # another machine has upgraded it while this one was running
            self._schema = error
        else:
            self._schema = None
        asked = self._clock.time()
        theirs = engine.ledger.now().timestamp()
        differ = machine.apart(theirs, asked, self._clock.time())
        if differ is None:
            self._alarms.clear(Name.CLOCK_JUMPED, engine.ledger.name)
        else:
            self._alarms.raise_(Name.CLOCK_JUMPED, engine.ledger.name, f"its clock is {differ}")
        self._breakers(engine.ledger.breakers())
        stranded = engine.ledger.stranded([site.node.name for site in engine.sites])
        self._alarms.only(Name.NODE_GONE, {each.node: str(each) for each in stranded})
        states = engine.ledger.open_by_state()
        self._waiting = states.get(State.WAITING, 0)
        unknown = states.get(State.UNKNOWN, 0)
        self._alarms.only(
            Name.OUTCOME_UNKNOWN,
            {"recalls": f"{unknown} wait for a person: `list --state unknown`"} if unknown else {},
        )

    def _breakers(self, open_ones: Collection[Breaker]) -> None:
        tripped = {breaker.prefix: breaker.tripped_at for breaker in open_ones}
        for prefix in [prefix for prefix, at in tripped.items() if self._tripped.get(prefix, at) != at]:
            self._alarms.clear(Name.BREAKER_OPEN, prefix)  # reset meanwhile, and tripped again: told anew
        self._tripped = tripped
        self._alarms.only(
            Name.BREAKER_OPEN,
            {b.prefix: f"{b.recalls} recalls within a short time" for b in open_ones},
        )

    def _disks(self) -> None:
        for folder in self._folders:
            try:
                room = _in_thread(partial(machine.room, folder))
            except OSError as error:
                log.warning("disk_not_looked_at", folder=str(folder), error=str(error))
                continue
            if room.full:
                self._alarms.raise_(Name.DISK_FULL, str(folder), str(room))
            else:
                self._alarms.clear(Name.DISK_FULL, str(folder))


def _alarm_of(error: DatabaseError) -> Name:
    match error:
        case DiskFull():
            return Name.DISK_FULL
        case DatabaseReadOnly():
            return Name.DATABASE_READ_ONLY
        case SchemaTooNew():
            return Name.SCHEMA_TOO_NEW
    return Name.DATABASE_AWAY


def watch_hub(blocked: float = BLOCKED) -> None:
    """Logs whenever no greenlet could run for longer than so many seconds, with what ran instead.

    gevent's monitoring thread can do this too, at the price of a trace function that every switch between
    greenlets calls. `faulthandler.dump_traceback_later` reads the frames without the interpreter's lock while
    they change: it ended engines with a segmentation fault. So this is a thread of its own, and takes turns.
    """
    beat = _Beat(gevent.get_hub().thread_ident, blocked)
    start_new_thread(beat.look_on, ())
    try:
        while True:
            began = beat.last = time.monotonic()
            beat.stack = ""
            gevent.sleep(blocked / 2)
            stood = time.monotonic() - began - blocked / 2
            if stood > blocked:
                log.warning("hub_blocked", seconds=round(stood, 2), stack=beat.stack)
    finally:
        beat.over = True


class _Beat:
    """When the hub last ran, and what runs while it has not for too long. `stack` is empty if that was
    something that let no other thread run."""

    def __init__(self, thread: int, blocked: float) -> None:
        self._thread = thread
        self._blocked = blocked
        self.last = time.monotonic()
        self.stack = ""
        self.over = False

    def look_on(self) -> None:
        """In a thread of its own."""
        while not self.over:
            sleep(self._blocked / 4)
            if time.monotonic() - self.last > self._blocked and not self.stack:
                frame = sys._current_frames().get(self._thread)
                self.stack = "".join(traceback.format_stack(frame)).strip()


def _in_thread(work: Callable[[], T]) -> T:
    return cast(T, gevent.get_hub().threadpool.apply(work))
