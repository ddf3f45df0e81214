"""What agents say on their page to the recalls that are offered to them."""

from __future__ import annotations

from collections.abc import Iterable

from gevent.event import Event as Flag

from freeswitch_callback.core.attempt import outcome
from freeswitch_callback.core.facts import ClosedAs, Decision, Mode, Outcome, Say, Settlement
from freeswitch_callback.engine.attempts import Attempt
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.ledger import Ledger

_NO = (Say.POSTPONE, Say.REJECT)
_ASK_AGAIN = 5.0
"""Seconds after which the record is asked even though nobody has told of a word."""


def hear(ledger: Ledger, attempts: Iterable[Attempt]) -> None:
    """Look up what was said of those of which something still may be; tells their greenlets."""
    open_ones = {a.claim.attempt: a for a in attempts if a.decision is None and a.claim.agent is not None}
    if not open_ones:
        return
    for decision in ledger.decisions(list(open_ones)):
        attempt = open_ones[decision.attempt]
        attempt.decision = decision
        attempt.changed.set()


def wait_for_word(
    ledger: Ledger, attempt: Attempt, seconds: float, stopping: Flag, clock: Clock
) -> Decision | None:
    """The agent's word, None if there is none in time or we are asked to stop."""
    ends = clock.monotonic() + seconds
    while attempt.decision is None and not stopping.is_set() and (left := ends - clock.monotonic()) > 0:
        if not clock.wait(attempt.changed, min(left, _ASK_AGAIN)):
            hear(ledger, [attempt])
        attempt.changed.clear()
    return attempt.decision


def declined(attempt: Attempt) -> bool:
    """Whether the agent does not want the call that rings them: it is to be hung up."""
    decision, progress = attempt.decision, attempt.progress
    unanswered = progress.mode is Mode.AGENT_FIRST and progress.answered is None and progress.ended is None
    return unanswered and decision is not None and decision.say in _NO


def settlement(attempt: Attempt, now: float) -> Settlement | None:
    """What an agent's word makes of an attempt that is over; None where it has nothing to say.

    A conversation is one, whatever was said before.
    """
    decision, ended = attempt.decision, outcome(attempt.progress)
    if decision is None or decision.say not in _NO or ended is None or ended[0] is Outcome.CONNECTED:
        return None
    counted = attempt.progress.client_rang
    if decision.say is Say.REJECT:
        return Settlement(
            Outcome.AGENT_DECLINED, ended[1], ClosedAs.REJECTED, counted=counted, note=decision.reason
        )
    later = 0.0 if decision.until is None else max(0.0, decision.until.timestamp() - now)
    return Settlement(Outcome.AGENT_DECLINED, ended[1], retry_in=later, counted=counted)
