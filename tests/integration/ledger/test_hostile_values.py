"""What strangers send is stored as it came; what no database can hold becomes a visible escape."""

import pytest

from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.ledger.models import clean
from tests.hostile import TEXTS
from tests.integration.ledger.given import ANNA, missed, opening, waiting


@pytest.fixture
def stored(ledger: Ledger):
    """Stores a value in every text column of a missed call and gives them back."""
    numbers = iter(range(10_000))

    def store(value: str) -> dict[str, object]:
        recorded = ledger.record(
            missed(
                call_uuid=f"{next(numbers)}{value}"[:255],
                phone=value,
                calledid=value,
                operator=value,
                member_uuid=value,
                queue=value,
                caller_name=value,
                hangup_cause=value,
                extra={"value": value, value: "name"},
            ),
            opening(blocked="hostile"),
        )
        return ledger.show(recorded.missed_id)["missed"]

    return store


COLUMNS = ("phone", "calledid", "operator", "member_uuid", "queue", "caller_name", "hangup_cause")


def test_what_a_caller_sent_comes_back_as_it_came(stored):
    for value in TEXTS:
        row = stored(value)
        assert {row[column] for column in COLUMNS} == {value}
        assert row["extra"] == {"value": value, value: "name"}


def test_what_no_database_holds_becomes_a_visible_escape(stored):
    value = b"a\x00b\xff\xfe".decode("utf-8", "surrogateescape") + "\ud800"
    shown = "a\\x00b\\udcff\\udcfe\\ud800"
    row = stored(value)
    assert {row[column] for column in COLUMNS} == {shown}
    assert row["extra"] == {"value": shown, shown: "name"}


def test_what_is_too_long_is_cut(stored):
    row = stored("a" * 70_000)
    assert {len(row[column]) for column in COLUMNS} == {255, 1000}
    assert len(row["caller_name"]) == 1000
    assert {len(text) for pair in row["extra"].items() for text in pair} == {4000, 255, 4, 5}


def test_the_longest_keys_fit_their_indices(ledger: Ledger):
    longest = "😀" * 255
    recorded = ledger.record(
        missed(node=longest, call_uuid=longest, phone=longest), opening(longest, scope=longest, queue=longest)
    )
    assert recorded.new
    assert ledger.due([longest], 1)[0].number == longest
    assert ledger.retract(longest, longest)


def test_numbers_too_large_for_a_column_become_the_largest(ledger: Ledger):
    recorded = ledger.record(missed(timewait=10**30), opening(priority=-(10**30), delay=1e300, expire=1e300))
    shown = ledger.show(recorded.missed_id)
    assert (shown["missed"]["timewait"], shown["recall"]["priority"]) == (2**31 - 1, -(2**31 - 1))


def test_a_hostile_number_finds_its_call_and_its_recall(ledger: Ledger):
    for value in ("O'Brien", "a\x00b", "\udcff", "%s", "'; DROP TABLE missed;--"):
        first = ledger.record(missed(phone=value), opening(value, scope=value))
        second = ledger.record(missed(phone=value), opening(value, scope=value))
        assert first.recall_id == second.recall_id
        assert ledger.count(Filter(number=value)) == 2


def test_cleaning_changes_nothing_else():
    for value in TEXTS:
        assert clean(value, 1000) == value
    assert clean(clean("a\x00\udc80")) == clean("a\x00\udc80") == "a\\x00\\udc80"


def test_what_is_put_on_the_list_is_found_and_removed_as_it_came(ledger: Ledger):
    """And costs no more than its column holds, however long it is."""
    for value in {clean(text): text for text in [*TEXTS, "a" * 70_000, "+" * 70_000 + "*"]}.values():
        assert ledger.forbid([DoNotCall(value, note=value, added_by=value)], value) == 1
        assert [entry.number for entry in ledger.forbidden()] == [clean(value)]
        assert [entry.number for entry in ledger.forbidden(value)] == [clean(value)]
        assert ledger.allow(value, value)
        assert ledger.forbidden() == []


def test_whom_a_client_talked_to_may_be_called_anything(ledger: Ledger):
    waiting(ledger)
    for value in TEXTS:
        ledger.note_talk(value, value, value)
        ledger.note_talk(ANNA, "default", value)
        assert [due.last_agent for due in ledger.due(None, 9)] == [clean(value)]
        assert ledger.close_reached(value, value, value, operator=value) == 0
        assert ledger.reset_breakers([value], value) == 0
