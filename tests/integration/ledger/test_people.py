"""Users, sessions and tokens on record."""

from __future__ import annotations

from contextlib import closing

import pytest

from freeswitch_callback.errors import NotFound, UsageError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.database import open_database
from freeswitch_callback.ledger.models import Session
from freeswitch_callback.ledger.people import MOST_SESSIONS, Person
from tests.integration.ledger.given import NOON, Clock

HOUR, DAY = 3600.0, 86400.0


def person(ledger: Ledger, name: str = "anna", password: str = "hash") -> Person:
    ledger.people.add_user(name, password, "operator", "root", agent="1001@default")
    found = ledger.people.user(name)
    assert found is not None
    return found


def begun(ledger: Ledger, who: Person, key: str = "k1") -> bool:
    return ledger.people.begin_session(who, key, lifetime=8 * HOUR, idle=HOUR)


def test_a_user_is_there_by_name_and_in_the_list(timed: Ledger):
    anna = person(timed)
    timed.people.add_user("boris", "h", "supervisor", "root", queues=("*@tenant", "a@b"))
    assert (anna.role, anna.agent, anna.queues, anna.made_at) == ("operator", "1001@default", None, NOON)
    assert [(user.name, user.queues) for user in timed.people.users()] == [
        ("anna", None),
        ("boris", ("*@tenant", "a@b")),
    ]
    assert timed.people.user("nobody") is None


def test_a_name_is_taken_once(ledger: Ledger):
    person(ledger)
    with pytest.raises(UsageError, match="there is a user 'anna' already"):
        person(ledger)
    ledger.people.add_token("crm", "key", "read", "root")
    with pytest.raises(UsageError, match="there is a token 'crm' already"):
        ledger.people.add_token("crm", "key2", "read", "root")


def test_a_session_is_its_users_until_it_is_ended(ledger: Ledger):
    anna = person(ledger)
    assert begun(ledger, anna)
    assert ledger.people.session("k1", HOUR) == anna
    assert ledger.people.session("k2", HOUR) is None
    assert ledger.people.end_session("k1")
    assert not ledger.people.end_session("k1")
    assert ledger.people.session("k1", HOUR) is None


def test_a_session_ends_when_nobody_uses_it(timed: Ledger, clock: Clock):
    begun(timed, person(timed))
    for _ in range(3):
        clock.forward(minutes=59)
        assert timed.people.session("k1", HOUR) is not None
    clock.forward(minutes=60)
    assert timed.people.session("k1", HOUR) is None


def test_a_session_that_is_used_ends_at_the_end_of_its_life(timed: Ledger, clock: Clock):
    begun(timed, person(timed))
    for _ in range(15):
        clock.forward(minutes=30)
        assert timed.people.session("k1", HOUR) is not None
    clock.forward(minutes=30)
    assert timed.people.session("k1", HOUR) is None


@pytest.mark.parametrize("change", ["password", "removal"])
def test_sessions_end_with_the_password_and_the_user(ledger: Ledger, change: str):
    anna = person(ledger)
    begun(ledger, anna)
    if change == "password":
        ledger.people.set_password("anna", "other", "root")
    else:
        ledger.people.remove_user("anna", "root")
    assert ledger.people.session("k1", HOUR) is None
    assert not begun(ledger, anna, "k2"), "their password was looked at before"
    assert ledger.people.session("k2", HOUR) is None


def test_sessions_do_not_pile_up(timed: Ledger, ledger_url: str, clock: Clock):
    anna = person(timed)
    for number in range(MOST_SESSIONS + 5):
        begun(timed, anna, f"k{number}")
    assert timed.people.session("k4", HOUR) is None
    assert timed.people.session("k5", HOUR) is not None
    clock.forward(hours=9)
    begun(timed, person(timed, "boris"), "last")
    with closing(open_database(ledger_url)) as database:
        assert [row["key"] for row in database.read(lambda t: t.rows(Session.select()))] == ["last"]


def test_a_token_is_there_until_it_is_revoked(ledger: Ledger):
    ledger.people.add_token("crm", "key", "operate", "root", ("*@tenant",))
    found = ledger.people.token("key")
    assert found is not None
    assert (found.name, found.scope, found.queues, found.made_by) == (
        "crm", "operate", ("*@tenant",), "root",
    )  # fmt: skip
    assert ledger.people.tokens() == [found]
    ledger.people.revoke("crm", "root")
    assert ledger.people.token("key") is None
    assert ledger.people.tokens() == []


def test_who_is_not_there_is_named(ledger: Ledger):
    for ask in (
        lambda: ledger.people.remove_user("nobody", "root"),
        lambda: ledger.people.set_password("nobody", "h", "root"),
        lambda: ledger.people.revoke("nobody", "root"),
    ):
        with pytest.raises(NotFound, match="'nobody'"):
            ask()
