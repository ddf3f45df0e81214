"""How much is asked of the database between an agent who is free and the call: counted, not timed."""

from __future__ import annotations

import pytest

from freeswitch_callback.core.facts import Claim
from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.given import QUEUE, by_caps, judged, statements, waiting


def messages(ledger: Ledger, *, sqlite: int, postgresql: int) -> int:
    return sqlite if ledger.path else postgresql


@pytest.mark.parametrize("others", [0, 40])
def test_from_looking_to_dialling_it_is_a_fixed_number(ledger: Ledger, others: int):
    for number in range(others + 12):
        waiting(ledger, f"+4930{1000000 + 10000 * number}")
    ledger.due([QUEUE], 1)  # connected, and the texts are built
    with statements() as asked:
        [first] = ledger.due([QUEUE], 1)
    assert len(asked) == messages(ledger, sqlite=1, postgresql=1), asked
    with statements() as asked:
        taken = judged(ledger, first.id, **by_caps(CapRules()), sent_to="core-1")
    assert isinstance(taken, Claim)
    assert len(asked) <= messages(ledger, sqlite=10, postgresql=4), asked


def test_nobody_waits_for_caps_that_are_not_set(ledger: Ledger):
    recorded = waiting(ledger)
    with statements() as asked:
        judged(ledger, recorded.recall_id, **by_caps(CapRules(per_number=0, per_prefix=0, breaker=0)))
    assert asked
    assert not any("pg_advisory" in sql for sql in asked)


def test_who_looks_at_a_long_line_reads_no_more_than_asked_for(ledger: Ledger):
    for number in range(30):
        waiting(ledger, f"+4930{1000000 + 10000 * number}", priority=number % 3)
    ledger.due([QUEUE], 1)  # connected
    with statements() as asked:
        found = ledger.due([QUEUE], 15)
    assert [due.priority for due in found] == [2] * 10 + [1] * 5
    assert len(asked) == messages(ledger, sqlite=2, postgresql=2)
