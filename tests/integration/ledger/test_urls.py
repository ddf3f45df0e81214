"""Which URLs name a database; no connection is made."""

from pathlib import Path

import pytest

from freeswitch_callback.errors import ConfigurationError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.database import open_database
from freeswitch_callback.ledger.postgresql import Postgresql
from freeswitch_callback.ledger.sqlite import Sqlite


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/x/callback.db", "/var/lib/x/callback.db"),
        ("sqlite:////var/callback.db", "/var/callback.db"),
        ("sqlite://data/callback.db", "data/callback.db"),
        ("sqlite://callback.db", "callback.db"),
        ("sqlite:///a b%20c?d#e.db", "/a b%20c?d#e.db"),
    ],
)
def test_sqlite_files(url: str, path: str):
    database = open_database(url)
    assert isinstance(database, Sqlite)
    assert database.path == Path(path.replace("//", "/")).absolute()


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        (
            "postgresql://me@db:5433/calls",
            {"user": "me", "host": "db", "port": "5433"},
        ),
        ("postgres://me:p%40ss@[::1]/calls", {"user": "me", "password": "p@ss", "host": "::1"}),
        (
            "postgresql:///calls?host=/run/postgresql&sslmode=require",
            {"host": "/run/postgresql", "sslmode": "require"},
        ),
        ("postgresql:///calls", {}),
    ],
)
def test_postgresql_databases(url: str, parameters: dict[str, str]):
    database = open_database(url)
    assert isinstance(database, Postgresql)
    assert database._parameters == parameters
    assert database._database == "calls"


def test_a_password_given_apart_goes_first_and_no_message_has_either():
    database = open_database("postgresql://me:first@db/calls?password=third", password="second")
    assert isinstance(database, Postgresql)
    assert database._parameters["password"] == "second"
    assert database.name == "postgresql://me:***@db/calls?password=***"


@pytest.mark.parametrize(
    "url",
    [
        *("", "callback.db", "/var/lib/callback.db", "mysql://x/y", "sqlite:", "sqlite:x.db", "SQLITE"),
        *("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://:memory:", "sqlite:///a\0b"),
        *("postgresql://", "postgresql://me@db", "postgresql://me@db/", "postgresql://me@db:port/calls"),
        *("postgresql://me@[::1/calls", "postgresql:calls"),
    ],
)
def test_what_names_no_database(url: str):
    with pytest.raises(ConfigurationError):
        Ledger(url)


@pytest.mark.parametrize(
    "url", ["mysql://me:s3cret@db/x", "postgresql://me:s3cret@db", "postgresql://me:s3cret@db:x/y"]
)
def test_no_message_has_the_password(url: str):
    with pytest.raises(ConfigurationError) as raised:
        Ledger(url)
    assert "s3cret" not in str(raised.value)


def test_a_pool_of_none():
    with pytest.raises(ConfigurationError, match="at least 1"):
        Ledger("postgresql://db/calls", pool=0)
