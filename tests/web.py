"""A site without an engine at work, and a browser and a program that use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from freeswitch_callback.core.access import Role, Scope
from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.daemon import Engine, EngineRules, NodeAddress
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import accounts
from freeswitch_callback.operations.accounts import NewUser
from freeswitch_callback.web import app
from freeswitch_callback.web.inside import Inside
from freeswitch_callback.web.site import Settings, Site

PASSWORD = "correct horse battery"
ORIGIN = "http://localhost"
API = "/api/v1"

GATES = GateRules(numbers=NumberRules(allow=frozenset({"US", "DE"})), min_wait=0.0)


def engine_of(ledger: Ledger) -> Engine:
    """One that does not run, with one node that is away."""
    recall = RecallRules(dial_string="sofia/gateway/main/{number}", caller_id_number="+12025559999")
    rules = EngineRules(CaptureRules(), lambda queue: GATES, lambda queue: recall)
    return Engine(ledger, [NodeAddress("fs1", "127.0.0.1", 1, "")], rules)


def site_of(ledger: Ledger, engine: Engine | None = None, **settings: Any) -> Site:
    engine = engine or engine_of(ledger)
    rules = engine.rules
    return Site(ledger, Inside(engine), rules.gates, rules.recall, Settings(**settings))


class Program:
    """Asks with a token."""

    def __init__(self, site: Site, token: str | None) -> None:
        self.http = Client(app.make(site))
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> TestResponse:
        given: dict[str, Any] = {} if body is None else {"json": body}
        return self.http.open(API + path, method=method, query_string=query, headers=self.headers, **given)

    def get(self, path: str, **query: Any) -> Any:
        response = self("GET", path, **query)
        assert response.status_code == 200, response.text
        return response.json

    def post(self, path: str, **body: Any) -> Any:
        response = self("POST", path, body)
        assert response.status_code in (200, 201), response.text
        return response.json


class Browser:
    """Has cookies, and says where it comes from."""

    def __init__(self, site: Site, origin: str = ORIGIN, **environ: str) -> None:
        self.http = Client(app.make(site))
        self.origin = origin
        self.environ = environ
        self.csrf = ""

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        sent = {"Origin": self.origin, "X-CSRF-Token": self.csrf} if method != "GET" else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value}
        given: dict[str, Any] = {} if body is None else {"json": body}
        return self.http.open(path, method=method, headers=sent, environ_base=self.environ, **given)

    def log_in(self, name: str = "anna", password: str = PASSWORD) -> TestResponse:
        response = self.open("POST", f"{API}/session", {"user": name, "password": password})
        if response.status_code == 200:
            self.csrf = response.json["csrf"]  # type: ignore[index]
        return response


def token(ledger: Ledger, scope: Scope = Scope.ADMIN, *queues: str) -> str:
    name = f"{scope}-{len(ledger.people.tokens())}"
    return accounts.add_token(ledger, name, scope, "root", queues or None)


def program(site: Site, scope: Scope = Scope.ADMIN, *queues: str) -> Program:
    return Program(site, token(site.ledger, scope, *queues))


def add_user(ledger: Ledger, name: str = "anna", role: Role = Role.ADMIN, **said: Any) -> None:
    accounts.add_user(ledger, NewUser(name, role, **said), PASSWORD, "root")


@contextmanager
def opened(url: str) -> Iterator[Site]:
    with closing(Ledger(url)) as ledger:
        yield site_of(ledger)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture
def site(ledger: Ledger) -> Site:
    return site_of(ledger)


def with_settings(site: Site, **settings: Any) -> Site:
    site.settings = replace(site.settings, **settings)
    return site


def lines(response: TestResponse) -> list[Any]:
    return [json.loads(line) for line in response.text.splitlines()]
