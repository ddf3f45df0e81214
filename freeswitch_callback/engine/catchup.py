"""After every connect: whoever gave up while nobody listened, read back from the queues' lists of members.

The lists are read at once, since a queue forgets those who left, and judged a moment later: by then events
have told of every call that was still up, and other engines have written what they heard.

Afterwards it is noted how far this node's events were taken in. What lies before that mark has been told,
whoever asks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import structlog

from freeswitch_callback.core import catchup
from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.catchup import AtTheSwitch, Heard, Limits, tail
from freeswitch_callback.core.facts import Missed
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.errors import CommandFailed, ProtocolError, UnsafeValue
from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.callcenter import Member, Queue
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Ledger

log = structlog.get_logger(__name__)

_ON_ITS_WAY = 2.0
"""Seconds that an event may take from FreeSWITCH to here."""


class CatchUp:
    """One node's. `settle`: seconds between connecting and judging.

    `live` and `heard` tell of all nodes: the numbers on channels that are up, and what events told of calls;
    `channels` of this one: those numbers by the channels' uuids.
    `last_answer`: when an agent of this node last began to talk, epoch seconds. `record` puts a missed call
    on record; `behind`: how many facts are not there yet.
    """

    def __init__(
        self,
        node: Node,
        ledger: Ledger,
        *,
        record: Callable[[Missed], object],
        behind: Callable[[], int],
        capture: Callable[[], CaptureRules],
        numbers: Callable[[str], NumberRules],
        live: Callable[[], Iterable[str]],
        channels: Callable[[], Mapping[str, str]],
        heard: Callable[[], Iterable[Heard]],
        last_answer: Callable[[], int],
        settle: float,
        clock: Clock,
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._record = record
        self._record_is_behind = behind
        self._capture = capture
        self._numbers = numbers
        self._live = live
        self._channels = channels
        self._heard = heard
        self._last_answer = last_answer
        self._settle = settle
        self._clock = clock
        self._rows: dict[tuple[object, ...], Member] = {}
        self._read = False
        self._pending = False
        self._to_be_judged = False  # and has not been tried yet
        self._times_up = 0  # how often it came up
        self._up_at = 0.0  # FreeSWITCH's time
        self._judge_at = 0.0  # monotonic
        self._heard_until = 0.0  # what is before it was taken in
        self._noted = 0.0
        self._busy = False
        self._told = (0.0, 0.0)  # what time FreeSWITCH said it was, and when it said so (monotonic)
        self._on_the_line: dict[str, datetime] = {}  # who was seen there when; not on record yet

    def came_up(self) -> None:
        """FreeSWITCH tells its events from now on."""
        self._times_up += 1
        self._judge_at = self._clock.monotonic() + self._settle
        self._read, self._pending, self._to_be_judged = False, True, True

    def takes_in(self) -> None:
        """An event is being taken in."""
        self._busy = True

    def took_in(self, at: float) -> None:
        """It was, whole. `at`: its own time, FreeSWITCH's seconds since 1970."""
        self._busy = False
        self._told = at, self._clock.monotonic()
        self._heard_until = max(self._heard_until, at)

    def due_in(self) -> float:
        """Seconds until there is something to do that should not wait for the next poll."""
        return max(0.01, self._judge_at - self._clock.monotonic()) if self._to_be_judged else math.inf

    def run(self) -> int:
        """Do what is to be done now; how many missed calls were found. Raises what FreeSWITCH or the database
        raises; run it again then."""
        if not self._pending:
            self._all_is_quiet()
            self._note()
            return 0
        self._to_be_judged = self._clock.monotonic() < self._judge_at
        times_up = self._times_up
        if not self._read:
            # By their clock, not by ours: what a queue's list says is compared with it.
            self._up_at = callcenter.now(self._node)
            self._told = self._up_at, self._clock.monotonic()
            self._keep(self._members(self._queues()))
            self._look_who_left_and_talks()
            self._read = times_up == self._times_up
        if self._on_the_line:
            self._ledger.note_on_the_line(self._node.name, self._on_the_line)
            self._on_the_line = {}
        if self._clock.monotonic() < self._judge_at or self._record_is_behind():
            return 0  # what is on record decides
        told = self._judge()
        if self._times_up == times_up:  # else it was lost and came up again meanwhile: there is another gap
            self._rows.clear()
            self._pending = False
            self._all_is_quiet()
            self._note()
        return told

    def _judge(self) -> int:
        queues = self._queues()
        self._keep(self._members(queues))
        rows = list(self._rows.values())
        since = catchup.since(rows)
        if since is None:
            return 0
        record = self._ledger.on_record(
            self._node.name,
            sorted({row.uuid for row in rows}),
            sorted(set(catchup.numbers(rows, self._numbers))),
            since,
        )
        switch = AtTheSwitch(
            up_at=self._up_at,
            live=frozenset(self._live()),
            heard=tuple(self._heard()),
            limits={q.name: Limits(q.max_wait_time, q.max_wait_time_with_no_agent) for q in queues},
            last_answer=self._last_answer(),
        )
        wants = self._capture().wants
        result = catchup.found(self._node.name, rows, record, switch, wants, self._numbers)
        for missed in result.missed:
            self._record(missed)
        if result.missed or result.left_out:
            log.info(
                "caught_up", node=self._node.name, found=len(result.missed), left_out=result.left_out or None
            )
        return len(result.missed)

    def _look_who_left_and_talks(self) -> None:
        """Who is on the line though a list has them as gone, before we listened: picked up, or moved on.
        Should the connection be lost or this engine end before rows are judged, nobody else will know."""
        waits = (row for row in self._rows.values() if row.state not in ("Abandoned", "Answered"))
        stay = Counter(tail(row.cid_number) for row in waits)
        left = {tail(row.cid_number) for row in self._rows.values() if row.state == "Abandoned"}
        up = Counter(tail(number) for number in self._live())
        elsewhere = {number for number in left if up[number] > stay[number]}  # one may call twice at once
        elsewhere = {n for n in elsewhere if up[n] - self._only_shown(n) > stay[n]}
        talk = {number for number in self._live() if tail(number) in elsewhere}
        # Behind whatever is in the lists by now, which have whole seconds.
        at = datetime.fromtimestamp(self._their_time() + 1, UTC)
        self._on_the_line.update(dict.fromkeys(talk, at))

    def _only_shown(self, number: str) -> int:
        """How many of a number's channels (by its tail) are gone, and still in FreeSWITCH's table, which is
        behind (by 0.6 s, measured)."""
        channels = [uuid for uuid, shown in self._channels().items() if tail(shown) == number]
        return sum(not self._exists(uuid) for uuid in channels)

    def _exists(self, uuid: str) -> bool:
        try:
            return callcenter.uuid_exists(self._node, uuid)
        except UnsafeValue:  # a dialplan may name its channels as it likes; the table is all that is known
            return True

    def _queues(self) -> list[Queue]:
        return callcenter.queues(self._node)

    def _members(self, queues: Iterable[Queue]) -> Iterable[Member]:
        """Of all queues: a stay in one that is not captured tells what became of one that is."""
        for queue in queues:
            try:
                yield from callcenter.members(self._node, queue.name)
            except (CommandFailed, ProtocolError, UnsafeValue) as error:  # this one is gone, or was never fit
                log.warning("queue_not_caught_up", node=self._node.name, queue=queue.name, error=str(error))

    def _keep(self, members: Iterable[Member]) -> None:
        """Everybody who is in a list, or was at an earlier look: by then FreeSWITCH may have forgotten them.
        Of a member who is there again in another state, the newer row says more."""
        for member in members:
            stay = (member.queue, member.uuid, max(member.joined_epoch, member.rejoined_epoch))
            self._rows[stay] = member

    def _all_is_quiet(self) -> None:
        """While nothing waits to be taken in, all has been, also where FreeSWITCH had nothing to say."""
        if not self._busy:
            self._heard_until = max(self._heard_until, self._their_time() - _ON_ITS_WAY)

    def _their_time(self) -> float:
        """FreeSWITCH's, or a moment less: what it says takes a while to get here."""
        told, when = self._told
        return told + self._clock.monotonic() - when

    def finish(self) -> None:
        """Note how far this was heard by an engine that stops."""
        if not self._pending:
            self._note()

    def _note(self) -> None:
        if self._heard_until > self._noted:
            until = self._heard_until
            self._ledger.note_heard(self._node.name, datetime.fromtimestamp(until, UTC))
            self._noted = until
