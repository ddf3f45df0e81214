"""After an attempt: is the recall over, and if not, when is it due again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from freeswitch_callback.core.attempt import FAULTS, Progress, outcome
from freeswitch_callback.core.facts import ClosedAs, Mode, Outcome, Settlement


@dataclass(frozen=True, slots=True)
class RetryRules:
    """`attempts` that count at most; `retry` delays in seconds by `busy`, `no_answer`, `failed`.

    With each attempt that counted a delay is `growth` times as long, a day at most; `jitter` is the part of
    it by which chance makes it longer or shorter, so that those who failed together do not return together.
    `agent_pause`: how soon a recall is tried with somebody else after an agent was not there;
    `agent_failures`: how often in a row that may happen.
    """

    attempts: int = 3
    retry: Mapping[str, float] = field(
        default_factory=lambda: {"busy": 300.0, "no_answer": 1800.0, "failed": 900.0}
    )
    min_talk: float = 10.0
    agent_pause: float = 0.0
    agent_failures: int = 10
    growth: float = 1.0
    jitter: float = 0.1

    def delay(self, kind: str, attempts: int, chance: float) -> float:
        """Seconds until the next try. `attempts` that counted before this one; `chance` from 0 to 1."""
        grown = self.retry[kind] * self.growth ** min(attempts, 100)
        return min(grown, _LONGEST_DELAY) * (1.0 + self.jitter * (2.0 * chance - 1.0))


_LONGEST_DELAY = 86400.0


_AGENT_AWAY = frozenset({Outcome.AGENT_NO_ANSWER, Outcome.AGENT_DECLINED})
_DELAY = {
    Outcome.CONNECTED: "no_answer",  # too short a talk: an answering machine, or nobody there
    Outcome.BUSY: "busy",
    Outcome.NO_ANSWER: "no_answer",
    Outcome.CLIENT_REJECTED: "busy",
    Outcome.CLIENT_HUNG_UP: "no_answer",
    Outcome.FAILED: "failed",
}


def settle(
    progress: Progress, attempts: int, failures: int, rules: RetryRules, chance: float = 0.5
) -> Settlement:
    """What the recall becomes, now that its attempt has ended.

    `attempts` and `failures` are the recall's, without this attempt; `chance`, from 0 to 1, is for the
    jitter. Raises ValueError for an attempt that goes on.
    """
    ended = outcome(progress)
    if ended is None:
        raise ValueError("the attempt goes on")
    result, cause = ended
    if result is Outcome.CONNECTED and (progress.talked >= rules.min_talk or progress.clocks_disagree):
        return Settlement(result, cause, closed_as=ClosedAs.RECALLED)
    if result is Outcome.UNALLOCATED:
        return Settlement(result, cause, closed_as=ClosedAs.EXHAUSTED, note="unallocated number")
    agent_away = result in _AGENT_AWAY
    if agent_away or not progress.client_rang:
        counted = progress.client_rang
        if failures + 1 >= rules.agent_failures or (counted and attempts + 1 >= rules.attempts):
            note = "" if counted else f"{failures + 1} times in a row the client's phone did not even ring"
            return Settlement(
                result, cause, closed_as=ClosedAs.EXHAUSTED, counted=counted, agent_failed=True, note=note
            )
        if counted:  # who was rung for nothing is not rung again at once
            delay = rules.delay("busy", attempts, chance)
        elif agent_away and cause not in FAULTS:
            delay = rules.agent_pause
        else:
            delay = rules.delay("failed", failures, chance)
        return Settlement(result, cause, retry_in=delay, counted=counted, agent_failed=True)
    if attempts + 1 >= rules.attempts:
        return Settlement(result, cause, closed_as=ClosedAs.EXHAUSTED)
    note = f"talked {progress.talked:.1f} s, min_talk is {rules.min_talk:g} s" if progress.connected else ""
    return Settlement(result, cause, retry_in=rules.delay(_DELAY[result], attempts, chance), note=note)


def agent_rest(cause: str, delays: Mapping[str, int]) -> float:
    """Seconds that an agent who was not there is left alone: by their own delays, at least 30.

    `delays`: the agent's `busy_delay_time`, `reject_delay_time`, `no_answer_delay_time`.
    """
    own = {
        "USER_BUSY": delays.get("busy_delay_time", 0),
        "CALL_REJECTED": delays.get("reject_delay_time", 0),
    }.get(cause, delays.get("no_answer_delay_time", 0))
    return float(max(30, own))


def agent_was_away(settlement: Settlement, mode: Mode) -> bool:
    """Whether the agent is to rest. In queue mode mod_callcenter sees to that itself."""
    away = settlement.outcome in _AGENT_AWAY and settlement.hangup_cause not in FAULTS
    return away and mode is not Mode.QUEUE
