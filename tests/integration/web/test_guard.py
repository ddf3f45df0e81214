"""Who gets in, by what, and what another site cannot make a browser do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from freeswitch_callback.core.access import Scope
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.web import app, guard
from freeswitch_callback.web.site import Site
from freeswitch_callback.web.throttle import Throttle
from tests.hostile import VALUES
from tests.integration.ledger.given import Clock
from tests.web import API, ORIGIN, PASSWORD, Browser, Program, add_user, program, site_of, with_settings

CLOSE = f"{API}/missed/close"
ALL = {"all": True}


def test_a_program_without_a_token_gets_401(site: Site):
    response = Program(site, None)("GET", "/missed")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.mimetype == "application/problem+json"
    assert response.json == {
        "type": "about:blank", "title": "Unauthorized", "status": 401,
        "detail": "log in, or show a token",
    }  # fmt: skip


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer ", "Bearer fscb_wrong", "Basic YTpi", "Bearer \xff"])
def test_what_is_no_token_gets_401(site: Site, shown: str):
    add_user(site.ledger)
    browser = Browser(site)
    browser.log_in()
    assert browser.open("GET", f"{API}/missed").status_code == 200
    assert browser.open("GET", f"{API}/missed", Authorization=shown or " ").status_code == 401


def test_a_revoked_token_gets_401(site: Site):
    crm = program(site, Scope.READ)
    crm.get("/missed")
    site.ledger.people.revoke("read-0", "root")
    assert crm("GET", "/missed").status_code == 401


def test_too_small_a_scope_gets_403(site: Site):
    reads, operates = program(site, Scope.READ), program(site, Scope.OPERATE)
    assert reads("POST", "/missed/close", ALL).status_code == 403
    assert operates("POST", "/missed/close", ALL).status_code == 200
    assert operates("POST", "/missed/purge", ALL).status_code == 403
    assert program(site, Scope.ADMIN)("POST", "/missed/purge", ALL).status_code == 200


def test_a_view_that_says_not_who_may_see_it_is_not_served(site: Site, monkeypatch: pytest.MonkeyPatch):
    made = app.make(site)
    view = made.view_functions[f"api GET {'/missed'}"]
    monkeypatch.delattr(view, "needs")
    crm = program(site)
    crm.http.application = made
    assert crm("GET", "/missed").status_code == 403

    def forgotten() -> str:
        return ""

    monkeypatch.setattr(
        "freeswitch_callback.web.app.api.install", lambda a, s: a.add_url_rule("/x", "x", forgotten)
    )
    with pytest.raises(AssertionError, match="x"):
        app.make(site)


# --- logging in -------------------------------------------------------------------------------------------


def test_who_logs_in_may_look_and_change(site: Site):
    add_user(site.ledger)
    browser = Browser(site)
    response = browser.log_in()
    assert response.json == {"name": "anna", "role": "admin", "agent": None, "csrf": browser.csrf}
    me = browser.open("GET", f"{API}/session").json
    assert (me["name"], me["scope"], me["csrf"]) == ("anna", "admin", browser.csrf)
    assert browser.open("POST", CLOSE, ALL).status_code == 200


def test_what_the_cookie_is(site: Site):
    add_user(site.ledger)
    cookie = Browser(site).log_in().headers["Set-Cookie"]
    assert cookie.startswith("callback=")
    assert "; HttpOnly; Path=/; SameSite=Strict" in cookie
    with_settings(site, tls=True)
    cookie = Browser(site, "https://localhost").log_in().headers["Set-Cookie"]
    assert cookie.startswith("__Host-callback=")
    assert "; Secure; HttpOnly; Path=/; SameSite=Strict" in cookie


@pytest.mark.parametrize(
    ("name", "password"), [("anna", "wrong"), ("nobody", PASSWORD), ("", ""), *((v, v) for v in VALUES)]
)
def test_a_wrong_name_and_a_wrong_password_are_told_alike(shared: Site, name: str, password: str):
    response = Browser(shared).log_in(name, password)
    assert (response.status_code, response.json["detail"]) in (
        (401, "name or password is wrong"),
        (400, "user: must have from 0 to 1000 characters"),
    )
    assert "Set-Cookie" not in response.headers


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with closing(Ledger(f"sqlite://{tmp_path_factory.mktemp('shared')}/callback.db")) as ledger:
        ledger.migrate()
        add_user(ledger)
        site = site_of(ledger)
        site.by_address = Throttle(10_000, within=300.0)
        yield site


def test_a_session_is_another_one_after_each_log_in(site: Site):
    add_user(site.ledger)
    browser = Browser(site)
    first = browser.log_in().headers["Set-Cookie"]
    assert browser.log_in().headers["Set-Cookie"] != first
    old = Browser(site)
    old.http.set_cookie("callback", first.partition("=")[2].partition(";")[0])
    assert old.open("GET", f"{API}/session").status_code == 401


def test_who_logs_out_is_out(site: Site):
    add_user(site.ledger)
    browser = Browser(site)
    browser.log_in()
    cookie = browser.http.get_cookie("callback")
    assert browser.open("DELETE", f"{API}/session").status_code == 204
    assert browser.http.get_cookie("callback") is None
    browser.http.set_cookie("callback", cookie.value)
    assert browser.open("GET", f"{API}/session").status_code == 401


def test_a_session_ends(ledger_url: str):
    clock = Clock()
    with closing(Ledger(ledger_url, clock=clock)) as ledger:
        site = site_of(ledger, session_lifetime=7200.0, session_idle=1800.0)
        add_user(ledger)
        idle, busy = Browser(site), Browser(site)
        idle.log_in()
        busy.log_in()
        for _ in range(3):
            clock.forward(minutes=29)
            assert busy.open("GET", f"{API}/session").status_code == 200
        assert idle.open("GET", f"{API}/session").status_code == 401
        clock.forward(minutes=29)
        assert busy.open("GET", f"{API}/session").status_code == 200
        clock.forward(minutes=5)
        assert busy.open("GET", f"{API}/session").status_code == 401


def test_who_is_removed_is_out_at_once(site: Site):
    add_user(site.ledger)
    browser = Browser(site)
    browser.log_in()
    site.ledger.people.remove_user("anna", "root")
    assert browser.open("GET", f"{API}/session").status_code == 401


def test_passwords_cannot_be_tried_for_long(site: Site):
    add_user(site.ledger)
    site.by_address, site.by_user = Throttle(3, within=300.0), Throttle(100, within=300.0)
    for _ in range(5):  # right ones do not count
        assert Browser(site).log_in().status_code == 200
    tried = [Browser(site).log_in(password="wrong password").status_code for _ in range(5)]
    assert tried == [401, 401, 401, 429, 429]
    response = Browser(site).log_in()
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 300
    assert Browser(site, REMOTE_ADDR="127.0.0.2").log_in().status_code == 200, "from elsewhere"


def test_one_user_cannot_be_tried_from_everywhere(site: Site):
    add_user(site.ledger)
    add_user(site.ledger, "boris")
    site.by_user = Throttle(3, within=300.0)
    tried = [
        Browser(site, REMOTE_ADDR=f"127.0.0.{n}").log_in("Anna", "wrong password").status_code
        for n in range(4)
    ]
    assert tried == [401, 401, 401, 429]
    assert Browser(site).log_in("boris").status_code == 200


def test_a_house_with_a_million_addresses_is_one(site: Site):
    add_user(site.ledger)
    site.by_address = Throttle(2, within=300.0)
    tried = [
        Browser(site, REMOTE_ADDR=f"2001:db8::{n}").log_in(password="wrong password").status_code
        for n in range(3)
    ]
    assert tried == [401, 401, 429]


# --- other sites ------------------------------------------------------------------------------------------


def logged_in(site: Site, **environ: str) -> Browser:
    add_user(site.ledger)
    browser = Browser(site, **environ)
    browser.log_in()
    return browser


@pytest.mark.parametrize("wrong", ["", "0" * 64, "\u00e9"])
def test_without_its_csrf_token_a_session_changes_nothing(site: Site, wrong: str):
    browser = logged_in(site)
    right, browser.csrf = browser.csrf, wrong.encode().decode("latin-1")
    response = browser.open("POST", CLOSE, ALL)
    assert (response.status_code, "CSRF" in response.json["detail"]) == (403, True)
    assert browser.open("DELETE", f"{API}/session").status_code == 403
    browser.csrf = right
    assert browser.open("POST", CLOSE, ALL).status_code == 200


def test_another_sessions_csrf_token_is_of_no_use(site: Site):
    mine = logged_in(site)
    add_user(site.ledger, "boris")
    other = Browser(site)
    other.log_in("boris")
    mine.csrf = other.csrf
    assert mine.open("POST", CLOSE, ALL).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://localhost", "http://localhost:81", "null", "http://localhost.evil"],
)
def test_from_another_origin_a_session_changes_nothing(site: Site, origin: str):
    browser = logged_in(site)
    browser.origin = origin
    assert browser.open("POST", CLOSE, ALL).status_code == 403
    browser.origin = ORIGIN
    assert browser.open("POST", CLOSE, ALL).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Referer": "http://localhost/board"}, 200),
        ({"Referer": "http://localhost.evil/"}, 403),
        ({"Referer": "http://localhost/", "Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
def test_where_no_origin_is_told(site: Site, headers: dict[str, str], status: int):
    browser = logged_in(site)
    browser.origin = ""
    assert browser.open("POST", CLOSE, ALL, **headers).status_code == status


def test_another_site_cannot_log_a_browser_in(site: Site):
    add_user(site.ledger)
    assert Browser(site, "http://evil.example").log_in().status_code == 403


def test_a_form_is_no_json(site: Site):
    browser = logged_in(site)
    response = browser.http.post(
        CLOSE, data={"all": "true", "csrf_token": browser.csrf}, headers={"Origin": ORIGIN}
    )
    assert response.status_code == 415


# --- headers and proxies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"{API}/missed", f"{API}/openapi.json", "/nothing", f"{API}/missed/x"])
def test_all_answers_have_the_headers_that_browsers_go_by(site: Site, path: str):
    headers = program(site).http.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in headers


def test_a_proxy_tells_who_asks_and_how(site: Site):
    add_user(site.ledger)
    with_settings(site, proxies=("10.0.0.0/8",))
    site.by_address = Throttle(1, within=300.0)
    told = {"X_Forwarded_For": "198.51.100.1, 192.0.2.7, 10.0.0.9", "X_Forwarded_Proto": "https"}
    browser = Browser(site, REMOTE_ADDR="10.0.0.1")
    browser.origin = "https://localhost"

    def log_in(**headers: str) -> int:
        body = {"user": "anna", "password": "wrong password"}
        return browser.open("POST", f"{API}/session", body, **(told | headers)).status_code

    assert log_in() == 401
    assert log_in() == 429
    assert log_in(X_Forwarded_For="203.0.113.5, 192.0.2.7") == 429, "what a client says of itself is not told"
    assert log_in(X_Forwarded_For="192.0.2.7, 192.0.2.8") == 401
    assert "Strict-Transport-Security" in browser.open("GET", "/", **told).headers


def test_nobody_else_tells_who_asks(site: Site):
    add_user(site.ledger)
    site.by_address = Throttle(1, within=300.0)
    browser = Browser(site, REMOTE_ADDR="10.0.0.1")
    codes = [
        browser.open(
            "POST", f"{API}/session", {"user": "anna", "password": "wrong password"},
            X_Forwarded_For=f"192.0.2.{n}",
        ).status_code
        for n in range(2)
    ]  # fmt: skip
    assert codes == [401, 429]


def test_where_a_proxy_encrypts_nobody_comes_round_it(site: Site):
    crm = program(site)
    with_settings(site, proxies=("10.0.0.1",))

    def status(address: str) -> int:
        return crm.http.get(
            f"{API}/missed", headers=crm.headers, environ_base={"REMOTE_ADDR": address}
        ).status_code

    assert (status("10.0.0.1"), status("127.0.0.1"), status("10.0.0.2")) == (200, 200, 403)


def test_a_body_has_a_limit(site: Site):
    crm = program(site)
    response = crm.http.post(
        CLOSE, data=b" " * (guard.LARGEST_BODY + 1), headers=crm.headers, content_type="application/json"
    )
    assert response.status_code == 413
