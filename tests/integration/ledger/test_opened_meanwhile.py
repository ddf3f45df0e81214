"""A person opens a gate in the moment in which an engine finds it shut: the recall is not kept back."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial

import gevent
import pytest

from freeswitch_callback.core.facts import Claim
from freeswitch_callback.core.gates import CapRules, DoNotCall, Verdict
from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.conftest import ComesToWait
from tests.integration.ledger.given import ANNA, by_caps, judged, waiting

# SQLite has one writer: nothing happens in the middle of a claim.

BREAKER = CapRules(per_number=0, per_prefix=0, breaker=1)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with closing(Ledger(url)) as opened:
        yield opened


def stopped_by_a_breaker(ledger: Ledger) -> int:
    first, second, third = (waiting(ledger, f"+493000000{n}").recall_id for n in range(3))
    assert isinstance(judged(ledger, first, **by_caps(BREAKER)), Claim)
    assert not isinstance(judged(ledger, second, **by_caps(BREAKER)), Claim)
    return third


def on_the_list(ledger: Ledger) -> int:
    until = ledger.now() + timedelta(days=1)
    ledger.forbid([DoNotCall(ANNA, until=until), DoNotCall("+49*", until=until)], "admin")
    return waiting(ledger).recall_id


def reset(ledger: Ledger) -> None:
    assert ledger.reset_breakers(None, "admin") == 1


def removed(ledger: Ledger) -> None:
    assert ledger.allow("+49*", "admin")
    assert ledger.allow(ANNA, "admin")


def ended(ledger: Ledger) -> None:
    ago = ledger.now() - timedelta(hours=1)
    assert ledger.forbid([DoNotCall(ANNA, until=ago), DoNotCall("+49*", until=ago)], "admin") == 2


@pytest.mark.parametrize(
    ("shut", "opened"), [(stopped_by_a_breaker, reset), (on_the_list, removed), (on_the_list, ended)]
)
@pytest.mark.parametrize("asked", [1, 2])
def test_a_gate_that_a_person_opens_while_it_is_asked(
    ledger: Ledger,
    comes_to_wait: ComesToWait,
    shut: Callable[[Ledger], int],
    opened: Callable[[Ledger], None],
    asked: int,
):
    """Whether the person comes before it is asked again, or after: then they wait for what is kept back."""
    recall = shut(ledger)
    judge = by_caps(BREAKER)["judge"]
    verdicts: list[Verdict | None] = []
    people: list[gevent.Greenlet] = []

    def meanwhile(case, now):
        verdicts.append(judge(case, now))
        if len(verdicts) == asked:
            people.append(comes_to_wait(partial(opened, ledger)))
        return verdicts[-1]

    taken = judged(ledger, recall, judge=meanwhile, caps=BREAKER)
    people[0].get()
    if asked == 1:
        assert isinstance(taken, Claim)
    else:
        assert not isinstance(taken, Claim)
        assert recall in [due.id for due in ledger.due(None, 9)]
