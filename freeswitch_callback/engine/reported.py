"""What the dialplan's hook has left in FreeSWITCH's own database: calls that somebody has to be told of.

A record holds the call's uuid and no more, so what happened is learnt elsewhere: from the event that the hook
sent with it, from the call's own last event, or from its CDR. The record is struck once the call is on disk
here. One of which nothing else is ever told becomes a row without a number, and an alarm: somebody called,
and who it was has to be found out by a person.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from freeswitch_callback.core.facts import Missed, Reason, Served
from freeswitch_callback.engine.alarms import Alarms, Name
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.errors import UnsafeValue
from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Ledger

log = structlog.get_logger(__name__)

WITHOUT_A_WORD = 60.0
"""Seconds that a record waits for the CDR of a call that is over; then it is all that there is."""

_TOLD_FOR = 3600.0
"""Seconds that the alarm lasts."""
_SERVED_KEPT = 10_000
_MOST_LISTS = 100
"""Lists of one look: each is cut behind some hundred records."""


class Reported:
    """One node's. `record` puts a missed call on record; `behind`: how many facts are not there yet;
    `was_not_missed`: whether events told a call (its uuid) to its end, and it is no missed one."""

    def __init__(
        self,
        node: Node,
        ledger: Ledger,
        alarms: Alarms,
        *,
        record: Callable[[Missed], object],
        behind: Callable[[], int],
        was_not_missed: Callable[[str], bool],
        patience: float,
        clock: Clock,
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._alarms = alarms
        self._record = record
        self._record_is_behind = behind
        self._was_not_missed = was_not_missed
        self._patience = patience
        self._clock = clock
        self._over_since: dict[
            str, float
        ] = {}  # calls of which nothing is on disk: when first seen (monotonic)
        self._served: deque[str] = deque(maxlen=_SERVED_KEPT)  # call uuids, by their CDRs
        self._unusable: set[str] = set()
        self._without_number = 0
        self._alarm_ends = 0.0

    def cdr_told(self, fact: Missed | Served) -> None:
        """A CDR was read, and what it tells is on disk."""
        if isinstance(fact, Served):
            self._served.append(fact.call_uuid)

    def look(self) -> None:
        """Strike what is on disk; put on disk what nobody will tell any more. Raises what FreeSWITCH or the
        database raises; look again then."""
        if self._without_number and self._clock.monotonic() >= self._alarm_ends:
            self._without_number = 0
            self._alarms.clear(Name.MISSED_WITHOUT_NUMBER, self._node.name)
        seen: set[str] = set()
        for _ in range(_MOST_LISTS):
            if self._record_is_behind():
                return  # what is in the database decides
            records, complete = callcenter.reported(self._node)
            usable = [record for record in records if self._usable(*record)]
            seen.update(key for _, key in usable)
            done = self._on_disk(usable)
            callcenter.strike_reported(self._node, done)
            if complete or not done:
                break
        self._over_since = {key: at for key, at in self._over_since.items() if key in seen}

    def _on_disk(self, records: list[tuple[str, str]]) -> list[tuple[str, str]]:
        known = self._ledger.known_calls(self._node.name, [key for _, key in records])
        return [
            (realm, key)
            for realm, key in records
            if key in known or self._was_not_missed(key) or key in self._served or self._given_up(realm, key)
        ]

    def _given_up(self, realm: str, key: str) -> bool:
        """Whether it is on disk now, by what the record alone tells."""
        if callcenter.uuid_exists(self._node, key):
            return False  # its end will tell
        since = self._over_since.setdefault(key, self._clock.monotonic())
        if self._clock.monotonic() - since < self._patience:
            return False
        member = callcenter.reported_member(self._node, realm, key)
        if member is not None and self._ledger.known_member(self._node.name, member):
            return True  # the queue's list of members told it, which does not name the call
        self._record(
            Missed(
                node=self._node.name,
                call_uuid=key,
                phone="",
                calldate=self._clock.now(),
                timewait=0,
                reason=Reason.REQUESTED if realm == "callback_request" else Reason.FAILED,
                member_uuid=member,
                settled=False,  # a CDR that comes late tells all of it
            )
        )
        self._without_number += 1
        self._alarm_ends = self._clock.monotonic() + _TOLD_FOR
        self._alarms.raise_(
            Name.MISSED_WITHOUT_NUMBER,
            self._node.name,
            f"the dialplan reported {self._without_number} calls of which neither events nor CDRs told; they "
            f"are on record without a number (the last one: {key}); `import-cdr` completes them",
        )
        return not self._record_is_behind()

    def _usable(self, realm: str, key: str) -> bool:
        """A uuid: FreeSWITCH may be told to take it from a SIP header, and then a caller wrote it."""
        try:
            callcenter.usable_uuid(key)
        except UnsafeValue:
            if key not in self._unusable:
                self._unusable.add(key)
                log.warning("reported_call_not_usable", node=self._node.name, realm=realm, key=key[:80])
            return False
        return True
