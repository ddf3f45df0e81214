"""The life of a recall, as a table.

A recall waits until it is due, is claimed by one engine together with an agent, is dialled, connects and is
closed. What cannot be learnt is parked as `unknown` and never redialled blindly. Only a person opens a closed
recall again (replay).
"""

from __future__ import annotations

from enum import StrEnum

from freeswitch_callback.errors import IllegalMove


class State(StrEnum):
    WAITING = "waiting"  # due at `due_at`, as soon as every gate is open
    CLAIMED = "claimed"  # one engine holds it, with an agent reserved
    DIALLING = "dialling"  # originate sent
    CONNECTED = "connected"  # client and operator talk
    UNKNOWN = "unknown"  # what became of it cannot be learnt
    CLOSED = "closed"


MOVES: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.CLAIMED, State.CLOSED}),
    State.CLAIMED: frozenset({State.DIALLING, State.WAITING}),
    State.DIALLING: frozenset({State.CONNECTED, State.WAITING, State.UNKNOWN, State.CLOSED}),
    # A conversation below `min_talk` is tried again; an engine that loses sight of one must say so.
    State.CONNECTED: frozenset({State.CLOSED, State.WAITING, State.UNKNOWN}),
    State.UNKNOWN: frozenset({State.WAITING, State.CLOSED}),
    State.CLOSED: frozenset({State.WAITING}),
}

LIVE = frozenset({State.CLAIMED, State.DIALLING, State.CONNECTED})
"""States in which an engine holds the recall, under a lease."""

OPEN = frozenset(State) - {State.CLOSED}


def move(state: State, to: State) -> State:
    """The new state; raises `IllegalMove`, and changes nothing, where the table does not have it."""
    if to not in MOVES[state]:
        raise IllegalMove(
            f"a recall that is {state} cannot become {to}; "
            f"it can become {', '.join(sorted(MOVES[state])) or 'nothing else'}"
        )
    return to
