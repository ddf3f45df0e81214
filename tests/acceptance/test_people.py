"""Users and tokens by the command line."""

from __future__ import annotations

import io
import re

import pytest

from freeswitch_callback.operations import accounts

SECRET = "correct horse battery"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    def line(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    return line


def test_a_user_is_added_with_a_password_from_the_standard_input(shell, house, typed):
    typed(f"{SECRET}\n")
    assert shell("user", "add", "Anna", "--role", "operator", "--agent", "1001@default")[:2] == (
        0,
        "added: anna\n",
    )
    assert accounts.right_password(house.ledger.people.user("anna"), SECRET)
    [row] = shell.json("user", "list")
    assert row | {"made_at": None} == {
        "name": "anna", "role": "operator", "agent": "1001@default", "queues": "", "made_at": None,
    }  # fmt: skip
    typed("another horse\n")
    assert shell("user", "password", "anna")[0] == 0
    assert not accounts.right_password(house.ledger.people.user("anna"), SECRET)
    assert shell("user", "remove", "ANNA")[:2] == (0, "removed: anna\n")
    assert shell("user", "remove", "anna")[0] == 1


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (["anna", "--role", "operator"], SECRET, "name it with --agent"),
        (["anna", "--role", "admin", "--queue", "a"], SECRET, "limit a supervisor"),
        (["anna", "--role", "supervisor", "--queue", "a b"], SECRET, "is no pattern of queues"),
        (["an na", "--role", "admin"], SECRET, "is no name"),
        (["anna", "--role", "admin"], "short", "a password has from 10 to 1000 characters"),
        (["anna", "--role", "admin"], "", "which password?"),
    ],
)
def test_what_is_wrong_with_a_new_user_is_told(shell, house, typed, words, given, said):
    typed(given)
    status, _, err = shell("user", "add", *words)
    assert status == 2
    assert said in err
    assert house.ledger.people.users() == []


def test_a_token_is_shown_once(shell, house):
    status, out, _ = shell("token", "add", "crm", "--scope", "operate", "--queue", "*@tenant")
    assert status == 0
    token = out.strip()
    assert re.fullmatch(r"fscb_[A-Za-z0-9_-]{43}", token)
    found = house.ledger.people.token(accounts.key_of(token))
    assert (found.name, found.scope, found.queues) == ("crm", "operate", ("*@tenant",))
    _, listed, _ = shell("token", "list")
    assert token not in listed
    assert shell.json("token", "list")[0]["scope"] == "operate"
    assert shell("token", "add", "crm")[0] == 2
    assert shell("token", "revoke", "crm")[:2] == (0, "revoked: crm\n")
    assert house.ledger.people.token(accounts.key_of(token)) is None
    assert shell("token", "revoke", "crm")[0] == 1
