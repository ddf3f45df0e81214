"""Who waits live in which queue: the callers that a recall must not overtake.

`members-count` is of no use here: it still counts a member who is already talking (recording `answered`). So
members are kept by their session: in with `member-queue-start` / `-resume`, out with `bridge-agent-start` or
`member-queue-end`. What a snapshot of the queue says (`sync`) replaces what events said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from freeswitch_callback.core.facts import Event


class Callers:
    """The live callers of one node, by queue: the member's session and when it joined (epoch seconds)."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, float]] = {}

    def feed(self, event: Event) -> bool:
        """Take one `callcenter::info` event; True if a queue's line has become shorter."""
        action = event.get("CC-Action")
        if action not in (
            "member-queue-start",
            "member-queue-resume",
            "member-queue-end",
            "bridge-agent-start",
        ):
            return False
        queue, session = event.get("CC-Queue") or "", event.get("CC-Member-Session-UUID") or ""
        line = self._waiting.setdefault(queue, {})
        if action in ("member-queue-start", "member-queue-resume"):
            line.setdefault(session, event.timestamp)
            return False
        return line.pop(session, None) is not None

    def sync(self, queue: str, members: Mapping[str, float]) -> None:
        """What the switch itself says: the sessions that are Waiting or Trying, and when they joined."""
        self._waiting[queue] = dict(members)

    def waiting(self, queue: str) -> int:
        return len(self._waiting.get(queue, ()))

    def lines(self) -> dict[str, int]:
        """How many wait in each queue that is known."""
        return {queue: len(line) for queue, line in self._waiting.items()}

    def first(self, queues: Collection[str]) -> float | None:
        """When the one who waits longest in any of these queues joined; None if nobody waits."""
        return min((t for q in queues for t in self._waiting.get(q, {}).values()), default=None)
