"""The API: the same rows as at the command line, for whoever may see them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import gevent
import pytest

from freeswitch_callback import cli
from freeswitch_callback.core.access import Role, Scope, covered
from freeswitch_callback.core.facts import Missed, Reason
from freeswitch_callback.core.gates import opening
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.web.site import Site
from tests.hostile import EVERYTHING, TEXTS
from tests.web import API, GATES, Browser, Program, add_user, program

NOW = datetime.now(UTC)
SUPPORT, SALES, OTHER = "support@default", "sales@default", "support@tenant"


def missed(ledger: Ledger, number: int, **said: Any) -> int:
    given: dict[str, Any] = {
        "node": "fs1", "call_uuid": f"call-{number}", "phone": f"+1202555{number:04}",
        "calldate": NOW - timedelta(hours=number), "timewait": number % 7, "reason": Reason.ABANDONED,
        "queue": SUPPORT, "caller_name": f"Name {number}",
    }  # fmt: skip
    fact = Missed(**(given | said))
    return ledger.record(fact, opening(fact, GATES, datetime.now(UTC))).missed_id


@pytest.fixture
def crm(site: Site) -> Program:
    return program(site)


def test_the_command_line_and_the_api_give_the_same(
    site: Site, crm: Program, ledger_url: str, tmp_path, capsys
):
    for number in range(12):
        missed(site.ledger, number, queue=[SUPPORT, SALES, OTHER, None][number % 4], extra={"crm_id": "7"})
    missed(site.ledger, 13, phone="anonymous", reason=Reason.BUSY, calldate=NOW - timedelta(hours=5))
    site.ledger.replay(Filter(ids=(3,)), "root", 60.0)
    path = tmp_path / "callback.toml"
    path.write_text(
        f'database.url = "{ledger_url}"\nfreeswitch = [{{ port = 1, password = "s" }}]\n'
        'numbers = { default_region = "US", allow = ["US", "DE"] }\ncapture.min_wait = 0\n'
        'recall = { hours = "always", holidays = [], zone = "UTC", caller_id_number = "+12025559999" }\n'
    )

    def said(*words: str) -> list[Any]:
        capsys.readouterr()
        assert cli.main(["--config", str(path), *words, "--format", "json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    for words, query in (
        ((), {}),
        (("--state", "waiting"), {"state": "waiting"}),
        (("--state", "closed", "--reason", "busy"), {"state": "closed", "reason": "busy"}),
        (("--queue", SUPPORT, "--limit", "2"), {"queue": SUPPORT, "limit": 2}),
        (("--number", "+12025550003"), {"number": "+12025550003"}),
        (("--since", "4h"), {"since": "4h"}),
        (("--until", "4h", "--older-than", "6h"), {"until": "4h", "older_than": "6h"}),
    ):
        rows = said("list", *words)
        assert crm.get("/missed", **query)["items"] == rows
        assert rows
    assert crm.get("/missed/3") == said("show", "3")[0]
    why, told = crm.get("/missed/3/why"), said("why", "3")[0]
    texts = [gate.pop("text") for one in (why, told) for gate in one["gates"]]
    assert why == told
    assert len(texts) == 24
    report, reported = crm.get("/report"), said("report")[0]
    assert report | {"since": "", "until": ""} == reported | {"since": "", "until": ""}
    site.ledger.forbid([], "root")
    crm.post("/dnc", number="+1 202 555 0001", note="why")
    assert crm.get("/dnc")["items"] == said("dnc", "list")
    assert crm.get("/breakers")["items"] == said("breaker", "list") == []
    capsys.readouterr()
    assert cli.main(["--config", str(path), "export"]) == 0
    assert crm("GET", "/export").text == capsys.readouterr().out


# --- pages, sorting, searching ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sort", ["-calldate", "calldate", "-timewait", "timewait", "queue", "-due_at", "attempts"]
)
def test_pages_are_the_list_in_pieces_whatever_it_is_sorted_by(site: Site, crm: Program, sort: str):
    for number in range(23):
        missed(site.ledger, number, queue=[SUPPORT, None, SALES][number % 3])
    whole = [row["id"] for row in crm.get("/missed", sort=sort, limit=500)["items"]]
    pieces: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = crm.get("/missed", sort=sort, limit=5, **cursor)
        pieces += [row["id"] for row in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert pieces == whole
    assert len(set(whole)) == 23
    by = sort.removeprefix("-")
    values = [row[by] or "" if by == "queue" else row[by] for row in crm.get("/missed", sort=sort)["items"]]
    assert values == sorted(values, reverse=sort.startswith("-"))


@pytest.mark.parametrize(
    ("text", "ids"),
    [("5550001", [1]), ("name 2", [2]), ("ИВАН", [3]), ("иван", [3]), ("100%", [4]), ("_", []), ("\\", [])],
)
def test_searching_finds_a_part_of_the_number_or_the_name(
    site: Site, crm: Program, text: str, ids: list[int]
):
    missed(site.ledger, 1)
    missed(site.ledger, 2)
    missed(site.ledger, 3, caller_name="Иван")
    missed(site.ledger, 4, caller_name="100%")
    assert [row["id"] for row in crm.get("/missed", search=text)["items"]] == ids


def test_recalls_in_pages_with_their_gate(site: Site, crm: Program):
    for number in range(5):
        missed(site.ledger, number)
    missed(site.ledger, 9, phone="+12025550003")
    site.ledger.postpone(Filter(ids=(2,)), NOW + timedelta(hours=2), "root")
    page = crm.get("/recalls", limit=3)
    assert [row["id"] for row in page["items"]] == [5, 4, 3]
    assert page["items"][1]["missed"] == 4
    rest = crm.get("/recalls", limit=3, before=page["next"])
    assert [row["id"] for row in rest["items"]] == [2, 1]
    assert rest["items"][0]["gate"].startswith("due")
    assert [row["id"] for row in crm.get("/recalls", number="+12025550001")["items"]] == [2]
    assert crm.get("/recalls", state="closed")["items"] == []


@pytest.mark.parametrize(("path", "times"), [("/missed", 2), ("/report", 1), ("/recalls", 2)])
def test_an_engine_has_its_turn_while_a_long_list_is_made(
    site: Site, crm: Program, path: str, times: int, monkeypatch: pytest.MonkeyPatch
):
    for number in range(60):
        missed(site.ledger, number)
    gives_way = gevent.sleep
    turns = 0

    def noted(seconds: float = 0.0, ref: bool = True) -> None:
        nonlocal turns
        turns += seconds == 0.0
        gives_way(seconds, ref)

    monkeypatch.setattr(gevent, "sleep", noted)
    crm.get(path)
    assert turns >= times, "not all in one go"


# --- changes ---------------------------------------------------------------------------------------------


def test_what_is_changed_is_told_beforehand_by_a_dry_run(site: Site, crm: Program):
    for number in range(3):
        missed(site.ledger, number)
    assert crm.post("/missed/close", all=True, dry_run=True) == {"calls": 3}
    assert crm.post("/missed/close", ids=[1, 2], note="by mail") == {"closed": 2}
    row = crm.get("/missed/1")["recall"]
    assert (row["closed_as"], row["note"], row["closed_by"]) == ("cancelled", "by mail", "token admin-0")
    assert crm.post("/missed/replay", ids=[1], dry_run=True) == {"calls": 1}
    assert crm.post("/missed/replay", ids=[1]) == {"replayed": 1, "blocked": 0}
    due = (NOW + timedelta(hours=3)).replace(microsecond=0)
    postponed = crm.post("/missed/postpone", ids=[1], to=due.isoformat())
    assert postponed == {"postponed": 1, "due_at": due.isoformat().replace("+00:00", "Z")}
    assert crm.post("/missed/close", ids=[3], **{"as": "rejected"}) == {"closed": 1}
    assert crm.get("/missed/3")["recall"]["closed_as"] == "rejected"
    assert crm.post("/missed/purge", all=True, dry_run=True) == {"calls": 2}
    assert crm.post("/missed/purge", older_than="90d") == {"purged": 0}
    assert crm.post("/missed/purge", all=True) == {"purged": 2}
    assert [row["id"] for row in crm.get("/missed")["items"]] == [1]


def test_a_number_is_added_and_a_remark_kept(site: Site, crm: Program):
    added = crm.post("/missed", number="(202) 555-0200", queue=SUPPORT, name="Anna")
    assert added == {"id": 1, "recall": 1, "blocked": None}
    crm.post("/missed/1/remarks", text="prefers mornings")
    found = crm.get("/missed/1")
    [remark] = found["remarks"]
    assert (remark["who"], remark["text"]) == ("token admin-0", "prefers mornings")
    assert found["journal"][-1]["what"] == "remarked"
    assert crm("POST", "/missed", {"number": "nobody", "queue": SUPPORT}).status_code == 400


def test_the_list_of_those_who_must_not_be_called(site: Site, crm: Program):
    for number in ("+12025550001", "+12025550002", "+4930*"):
        crm.post("/dnc", number=number, until="30d")
    page = crm.get("/dnc", limit=2)
    assert [entry["number"] for entry in page["items"]] == ["+12025550001", "+12025550002"]
    [last] = crm.get("/dnc", limit=2, after=page["next"])["items"]
    assert (last["number"], last["added_by"]) == ("+4930*", "token admin-0")
    assert [e["number"] for e in crm.get("/dnc", number="+4930123456")["items"]] == ["+4930*"]
    assert crm("DELETE", "/dnc", number="+4930*").json == {"removed": "+4930*", "still_forbidden_by": []}
    assert crm("DELETE", "/dnc", number="+4930*").status_code == 404


def test_what_is_not_there_gets_404(crm: Program):
    for method, path, body in (
        ("GET", "/missed/1", None),
        ("GET", "/missed/1/why", None),
        ("POST", "/missed/1/remarks", {"text": "x"}),
        ("POST", "/missed/close", {"ids": [1]}),
        ("POST", "/breakers/reset", {"prefixes": ["+1"]}),
        ("GET", "/nothing", None),
    ):
        response = crm(method, path, body)
        assert (response.status_code, response.mimetype) == (404, "application/problem+json"), path


# --- queues ----------------------------------------------------------------------------------------------


def seen(ask: Program) -> set[str | None]:
    return {row["queue"] for row in ask.get("/missed")["items"]}


def test_who_is_limited_to_queues_sees_and_changes_nothing_else(site: Site):
    mine, other, none = (
        missed(site.ledger, n, queue=queue) for n, queue in enumerate((SUPPORT, OTHER, None))
    )
    limited = program(site, Scope.ADMIN, "*@default")
    assert seen(program(site)) == {SUPPORT, OTHER, None}
    assert seen(limited) == {SUPPORT}
    assert {row["queue"] for row in limited.get("/recalls")["items"]} == {SUPPORT}
    assert [row["queue"] for row in csv.DictReader(io.StringIO(limited("GET", "/export").text))] == [SUPPORT]
    assert limited.get("/report")["by_queue"] == {SUPPORT: 1}
    assert limited.get("/report")["open_by_gate"].values()
    assert sum(limited.get("/report")["open_by_gate"].values()) == 1
    assert limited.get("/state")["recalls"] == {"waiting": 1}
    assert limited("GET", f"/missed/{mine}").status_code == 200
    for hidden in (other, none):
        assert limited("GET", f"/missed/{hidden}").status_code == 404
        assert limited("GET", f"/missed/{hidden}/why").status_code == 404
        assert limited("POST", f"/missed/{hidden}/remarks", {"text": "x"}).status_code == 404
        for verb in ("close", "replay", "purge"):
            assert limited("POST", f"/missed/{verb}", {"ids": [hidden]}).status_code == 404
        assert limited("POST", "/missed/postpone", {"ids": [hidden], "for": "2h"}).status_code == 404
    assert limited("POST", "/missed", {"number": "+12025550200", "queue": OTHER}).status_code == 403
    for method, path, body in (
        ("GET", "/dnc", None), ("GET", "/breakers", None),
        ("POST", "/breakers/reset", {"all": True}), ("POST", "/dnc", {"number": "+4930*"}),
    ):  # fmt: skip
        assert limited(method, path, body).status_code == 403, path
    assert limited("DELETE", "/dnc", number="x").status_code == 403
    assert limited("POST", "/dnc", {"number": "+12025550200"}).status_code == 201
    assert limited.post("/missed/close", all=True) == {"closed": 1}
    assert limited.post("/missed/purge", all=True) == {"purged": 1}
    assert seen(program(site)) == {OTHER, None}


@pytest.mark.parametrize(
    "pattern", ["s?pport@*", "support@default", "a_b@x", "100%@x", "[a]@x", "back\\slash@x"]
)
def test_patterns_mean_the_same_in_the_database_and_here(site: Site, pattern: str):
    queues = [SUPPORT, SALES, OTHER, "SUPPORT@DEFAULT", "a_b@x", "aXb@x", "100%@x", "1000@x", "[a]@x", "a@x",
              "back\\slash@x"]  # fmt: skip
    for number, queue in enumerate(queues):
        missed(site.ledger, number, queue=queue)
    rows = site.ledger.listing(Filter(queues=(pattern,)))
    assert sorted(row["queue"] for row in rows) == sorted(q for q in queues if covered(q, (pattern,)))
    assert list(site.ledger.listing(Filter(queues=()))) == []


def test_an_operator_sees_the_queues_of_their_agent_and_changes_calls_one_by_one(site: Site, monkeypatch):
    missed(site.ledger, 1)
    missed(site.ledger, 2, queue=SALES)
    add_user(site.ledger, role=Role.OPERATOR, agent="1001@default")
    browser = Browser(site)
    browser.log_in()
    assert browser.open("GET", f"{API}/missed").json["items"] == []
    monkeypatch.setattr(site.live, "served_by", lambda agent: (SUPPORT,) if agent == "1001@default" else ())
    assert [row["id"] for row in browser.open("GET", f"{API}/missed").json["items"]] == [1]
    for body in ({"all": True}, {"state": "waiting"}, {"ids": [1], "all": True}):
        assert browser.open("POST", f"{API}/missed/close", body).status_code == 403
    assert browser.open("POST", f"{API}/missed/close", {"ids": [2]}).status_code == 404
    assert browser.open("POST", f"{API}/missed/purge", {"ids": [1]}).status_code == 403
    assert browser.open("POST", f"{API}/missed/close", {"ids": [1]}).json == {"closed": 1}


def test_agents_are_those_of_ones_queues(site: Site, monkeypatch):
    rows = [{"agent": "a", "queues": f"{SALES} {SUPPORT}"}, {"agent": "b", "queues": OTHER}]
    monkeypatch.setattr(site.live, "agent_rows", lambda: [dict(row) for row in rows])
    assert program(site).get("/agents")["items"] == rows
    assert program(site, Scope.READ, SUPPORT).get("/agents")["items"] == [{"agent": "a", "queues": SUPPORT}]


# --- what makes no sense ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/missed", {"quue": "x"}, "'quue': no such field; there are state,"),
        ("/missed", {"state": "new"}, "state: must be one of waiting,"),
        ("/missed", {"limit": "0"}, "limit: must be a whole number from 1 to 500"),
        ("/missed", {"limit": "9" * 5000}, "limit: must be a whole number"),
        ("/missed", {"limit": "١"}, "limit: must be a whole number"),
        ("/missed", {"since": "soon"}, "not a time: 'soon'"),
        ("/missed", {"since": "1e308d"}, "not a time"),
        ("/missed", {"cursor": "x"}, "cursor: take what `next` says"),
        ("/missed", {"cursor": "WzEsMl0"}, "cursor: take what `next` says"),
        ("/missed", {"sort": "phone"}, "sort: must be one of"),
        ("/missed/x", {}, "id: must be a whole number"),
        ("/missed/99999999999999999999", {}, "id: must be a whole number"),
        ("/report", {"since": "1h", "until": "2h"}, "since must be before until"),
        ("/report", {"since": "0001-01-01T00:00Z", "until": "0001-01-02T00:00Z"}, "until is before any call"),
        ("/missed?state=closed&state=waiting", {}, "state: is there 2 times"),
    ],
)
def test_what_makes_no_sense_gets_400_and_is_told(crm: Program, path: str, query: dict[str, str], said: str):
    response = crm("GET", path, **query) if query else crm.http.get(API + path, headers=crm.headers)
    assert response.status_code == 400
    assert response.json["detail"].startswith(said)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b'{"ids": [1e400]}', b'{"ids": [NaN]}', b"[" * 100_000, b'{"ids": "1"}',
     b'{"ids": [true]}', b'{"ids": [' + b"9" * 5000 + b"]}", b'{"ids": [99999999999999999999]}',
     b'{"all": "yes"}', b'{"al": true}', b'{"limit": 0, "all": true}', b'{"state": ["closed"]}',
     b'{"queue": {"a": 1}}', b'{"\\ud800": 1}', b'"ids"', b"null"],
)  # fmt: skip
def test_a_body_that_makes_no_sense_gets_400(crm: Program, body: bytes):
    response = crm.http.post(
        f"{API}/missed/close", data=body, headers=crm.headers, content_type="application/json"
    )
    assert (response.status_code, response.mimetype) == (400, "application/problem+json")


def test_whatever_strangers_send_is_refused_or_kept_as_it_came(site: Site, crm: Program):
    for value in EVERYTHING:
        for path, body in (
            ("/missed", {"number": value, "queue": SUPPORT}),
            ("/missed", {"number": "+12025550199", "queue": SUPPORT, "name": value}),
            ("/missed", {"number": "+12025550198", "queue": value}),
            ("/dnc", {"number": value, "note": value}),
            ("/missed/1/remarks", {"text": value}),
            ("/missed/close", {"queue": value, "note": value, "dry_run": True}),
            ("/breakers/reset", {"prefixes": [value]}),
        ):
            response = crm.http.post(API + path, data=json.dumps(body), headers=crm.headers,
                                     content_type="application/json")  # fmt: skip
            assert response.status_code < 500, (path, value)
        text, some = (quote(each, safe="", errors="surrogatepass") for each in (value, value[:50]))
        for path in (
            *(f"{each}?queue={text}" for each in ("/missed", "/recalls", "/report", "/export")),
            *(f"/dnc?number={text}", f"/missed?search={some}", f"/missed?number={text}", f"/missed/{some}"),
        ):
            assert crm.http.get(API + path, headers=crm.headers).status_code < 500, (path, value)


def test_names_come_back_as_they_came(site: Site, crm: Program):
    for number, text in enumerate(TEXTS):
        missed(site.ledger, number, caller_name=text, phone=text or "x")
    response = crm("GET", "/missed", limit=500)
    assert sorted(row["caller_name"] for row in response.json["items"]) == sorted(TEXTS)
    assert response.text.isascii(), "no line end and no control character of a stranger's"
    for row in csv.DictReader(io.StringIO(crm("GET", "/export").text)):
        assert not row["caller_name"].startswith(("=", "@", "\t", "\r"))


def test_a_database_that_is_away_is_said_and_nothing_else(site: Site, crm: Program, monkeypatch):
    def away(*_args: Any, **_options: Any) -> None:
        raise DatabaseUnreachable("postgresql://user@secret-host/db: connection refused")

    monkeypatch.setattr(site.ledger, "page", away)
    response = crm("GET", "/missed")
    assert response.status_code == 503
    assert "secret-host" not in response.text
    monkeypatch.setattr(site.ledger, "page", lambda *_args: 1 // 0)
    response = crm("GET", "/missed")
    assert response.status_code == 500
    assert "division" not in response.text


def test_the_state_of_all(site: Site, crm: Program):
    state = crm.get("/state")
    assert state["ready"] is False
    assert state["nodes"][0]["node"] == "fs1"
    assert state["nodes"][0]["up"] is False
    assert crm.get("/agents") == {"items": []}
