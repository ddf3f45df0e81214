"""What a name, a password and a token may be, and what each may do."""

from __future__ import annotations

import _thread
import os
import re
import sys
from types import SimpleNamespace

import gevent
import pytest

from freeswitch_callback.core.access import SCOPE_OF, Access, Role, Scope, covered, is_pattern
from freeswitch_callback.errors import UsageError
from freeswitch_callback.operations import accounts
from freeswitch_callback.operations.accounts import NewUser, TooBusy, hashed, name_of, right_password
from tests.hostile import NUMBERS, VALUES
from tests.unit.given_people import person

RIGHT = "correct horse battery"


def test_a_password_is_right_or_wrong():
    anna = person(password=hashed(RIGHT))
    assert right_password(anna, RIGHT)
    assert not right_password(anna, "correct horse batterz")
    assert not right_password(None, RIGHT)
    assert RIGHT not in anna.password


@pytest.mark.parametrize("given", VALUES)
def test_no_other_text_is_the_password(given: str):
    assert not right_password(ANNA, given)
    assert not right_password(None, given)


ANNA = person(password=hashed(RIGHT))


@pytest.mark.parametrize("short", ["", "123456789", "x" * 1001, "\ud800" * 12])
def test_what_is_no_password_is_told(short: str):
    with pytest.raises(UsageError, match="a password"):
        hashed(short)


def test_the_hub_goes_on_while_a_password_is_looked_at():
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0.001)

    counting = gevent.spawn(count)
    right_password(ANNA, RIGHT)
    counting.kill()
    assert turns > 3


def test_passwords_are_looked_at_one_after_the_other_and_not_too_many_wait(monkeypatch):
    monkeypatch.setattr(accounts, "WAITING_AT_MOST", 3)
    asked = [gevent.spawn(right_password, ANNA, RIGHT) for _ in range(5)]
    gevent.joinall(asked)
    assert [one.value for one in asked[:3]] == [True] * 3
    assert [type(one.exception) for one in asked[3:]] == [TooBusy] * 2
    assert right_password(ANNA, RIGHT), "who was refused is not counted"


def test_a_name_is_the_same_however_it_is_written():
    assert name_of("Anna.B-2@House") == "anna.b-2@house"


NO_NAMES = [v for v in VALUES + NUMBERS if not re.fullmatch("[0-9A-Za-z][0-9A-Za-z-]*", v)]


@pytest.mark.parametrize("bad", [*NO_NAMES, ".", "-a", "a" * 65, "\N{KELVIN SIGN}"])
def test_what_is_no_name_is_refused(bad: str):
    with pytest.raises(UsageError, match="is no name"):
        name_of(bad)


@pytest.mark.parametrize("pattern", ["support@default", "*@tenant", "*", "s?les@x", "a#b!c@d"])
def test_patterns_of_queues(pattern: str):
    assert accounts.patterns([pattern]) == (pattern,)


@pytest.mark.parametrize("bad", ["", "a b", "[ab]@x", "a\n", "x" * 256, "\x00"])
def test_what_is_no_pattern_is_refused(bad: str):
    assert not is_pattern(bad)
    with pytest.raises(UsageError, match="is no pattern of queues"):
        accounts.patterns([bad])


def test_who_is_limited_to_nothing_sees_all():
    assert accounts.patterns([]) is None
    assert Access("a", Scope.READ).sees("support@default")
    assert Access("a", Scope.READ).sees(None)


def test_who_is_limited_sees_their_queues_and_not_what_has_none():
    limited = Access("a", Scope.READ, ("*@tenant", "sales@default"))
    assert limited.sees("any@tenant")
    assert limited.sees("sales@default")
    assert not limited.sees("SALES@default")
    assert not limited.sees("any@tenant2")
    assert not limited.sees(None)
    assert not Access("a", Scope.READ, ()).sees("any@tenant")


def test_a_bracket_in_a_queue_is_a_bracket():
    assert covered("[a]@x", ["[a]@x"])
    assert not covered("a@x", ["[a]@x"])


def test_each_scope_has_what_is_in_those_before_it():
    for role, scope in SCOPE_OF.items():
        access = Access("a", scope)
        assert access.may(Scope.READ)
        assert access.may(Scope.ADMIN) == (role is not Role.OPERATOR)
    assert not Access("a", Scope.READ).may(Scope.OPERATE)
    assert not Access("a", Scope.OPERATE).may(Scope.ADMIN)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"role": Role.OPERATOR}, "name it with --agent"),
        ({"role": Role.ADMIN, "agent": "1001@default"}, "only an operator is bound to an agent"),
        ({"role": Role.OPERATOR, "agent": "1001@default", "queues": ("a",)}, "the queues which their agent"),
        ({"role": Role.ADMIN, "queues": ("a",)}, "limit a supervisor"),
    ],
)
def test_what_fits_not_together_is_told(user, said: str):
    with pytest.raises(UsageError, match=said):
        NewUser("anna", **user)


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a niceness of its own with Linux")
def test_passwords_are_looked_at_when_nobody_else_wants_the_processor(monkeypatch: pytest.MonkeyPatch):
    calls = os.getpriority(os.PRIO_PROCESS, 0)
    seen = []
    thread = _thread.get_native_id

    def look(*_):
        seen.append(os.getpriority(os.PRIO_PROCESS, thread()))
        return True

    monkeypatch.setattr(accounts, "_hasher", SimpleNamespace(verify=look))
    accounts.right_password(None, "correct horse battery")
    assert seen == [max(10, calls)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == calls
