"""The two ends of the pipe between an engine and the process of its pages, here in one process."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import gevent
import pytest
from gevent import socket

from freeswitch_callback.cli.engine_rules import engine_rules
from freeswitch_callback.config import parse
from freeswitch_callback.core.access import Role
from freeswitch_callback.core.facts import Decision, Say
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.engine.alarms import Name
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.errors import DatabaseUnreachable, EngineAway
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.web import operator, told
from freeswitch_callback.web import pipe as pipes
from freeswitch_callback.web.changes import AT_ONCE, Changes
from freeswitch_callback.web.inside import Inside
from freeswitch_callback.web.messages import News, Start
from freeswitch_callback.web.pipe import Pipe
from freeswitch_callback.web.site import Settings, Site
from freeswitch_callback.web.teller import Teller
from freeswitch_callback.web.told import Told
from tests.integration.web.test_api import SUPPORT, missed
from tests.web import GATES, ORIGIN, Browser, add_user, engine_of, program

DECISION = Decision(1, Say.ACCEPT, "anna")


class Both:
    """`told` is what the pages have, `inside` what the engine has; `news` counts what was told."""

    def __init__(self, engine: Engine) -> None:
        ours, theirs = socket.socketpair()
        self.engine = engine
        self.inside = Inside(engine)
        self.settings = Settings()
        self.changes = Changes(self.inside, lambda: engine.rules, lambda: self.settings)
        start = Start(
            "", None, ("", 0), None, None, "info", engine.name, self.inside.pid, tuple(self.inside.nodes)
        )
        self.pipes = Pipe(ours), Pipe(theirs)
        self.told = Told(start, self.pipes[1])
        self.teller = Teller(self.pipes[0], self.inside, self.changes)
        self.news: list[News] = []
        self.work = [gevent.spawn(self.teller.run)]
        self.hear()

    def hear(self) -> None:
        def hear() -> None:
            while (news := self.told.hear()) is not None:
                self.news.append(news)

        self.work.append(gevent.spawn(hear))

    def until(self, true: Any) -> None:
        with gevent.Timeout(10):
            while not true():
                gevent.sleep(0.005)

    def close(self) -> None:
        self.told.close()
        for pipe in self.pipes:
            pipe.close()
        gevent.killall(self.work)


@pytest.fixture
def both(ledger: Ledger) -> Iterator[Both]:
    both = Both(engine_of(ledger))
    both.until(lambda: any(news.complete for news in both.news))
    yield both
    both.close()


def board(both: Both) -> Any:
    return both.engine.sites[0].recaller.switchboard


def agents(count: int, **columns: Any) -> dict[str, Agent]:
    names = [f"{number}@default" for number in range(count)]
    return {name: Agent(name=name, contact=f"user/{name}", **columns) for name in names}


def same(both: Both) -> bool:
    def by_name(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: row["agent"])

    return by_name(both.told.agent_rows()) == by_name(both.inside.agent_rows())


def test_agents_who_come_and_go_are_told(both: Both):
    board(both).agents = agents(3)
    board(both).tiers = {"0@default": {SUPPORT: (1, 1)}, "9@default": {"other@default": (1, 1)}}
    both.until(lambda: both.told.agent_rows() and same(both))
    assert both.told.served_by("0@default") == (SUPPORT,)
    assert both.told.served_by("9@default") == ("other@default",)
    board(both).agents = agents(2, status="Available", last_bridge_end=1_700_000_000)
    board(both).tiers = {"0@default": {SUPPORT: (1, 1), "other@default": (1, 1)}}
    both.until(lambda: same(both) and both.told.served_by("9@default") == ())
    assert both.told.served_by("0@default") == ("other@default", SUPPORT)


def test_alarms_nodes_and_figures_are_told(both: Both):
    alarms, figures = both.engine.alarms, both.engine.figures
    assert both.told.node_rows() == both.inside.node_rows()
    alarms.raise_(Name.SPOOLING, "fs1", "7 facts")
    both.until(lambda: both.told.alarms() == alarms.active())
    alarms.clear(Name.SPOOLING, "fs1")
    both.until(lambda: both.told.alarms() == [])
    figures.count_missed(SUPPORT, "abandoned")
    figures.events["fs1"] += 3
    figures.reaction.add(0.2)
    both.until(lambda: list(both.told.figures.reaction.buckets()) == list(figures.reaction.buckets()))
    assert (both.told.figures.missed, both.told.figures.events) == (figures.missed, figures.events)
    figures.events["fs1"] += 3
    both.until(lambda: both.told.figures.events == {"fs1": 6})


def test_rules_are_told_by_queue_and_anew_when_they_change(both: Both):
    assert both.told.gates("any@default") == GATES
    german = GateRules(expire=1.0, hours=replace(GATES.hours))
    rules = replace(
        both.engine.rules, queues=(SUPPORT,), gates=lambda queue: german if queue == SUPPORT else GATES
    )
    both.engine._rules = rules
    both.until(lambda: both.told.gates(SUPPORT) == german)
    assert both.told.gates("any@default") == both.told.gates(None) == GATES
    assert both.told.recall(SUPPORT) == rules.recall(SUPPORT)


def test_a_thousand_agents_cost_nothing_while_nothing_changes(both: Both):
    board(both).agents = agents(1000)
    board(both).tiers = {name: {SUPPORT: (1, 1)} for name in board(both).agents}
    both.until(lambda: len(both.told.agent_rows()) == 1000 and len(both.told.tiers()["fs1"]) == 1000)
    assert max(len(each) for news in both.news for each in news.agents.values()) <= AT_ONCE
    both.work[0].kill()
    list(both.changes.look())
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert list(both.changes.look()) == []
        took.append(time.perf_counter() - began)
    assert min(took) < 0.0005
    board(both).agents = agents(1000)  # as every poll makes them: equal, and others
    assert list(both.changes.look()) == []


def test_what_is_asked_is_answered_and_an_error_is_the_engines(both: Both, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    monkeypatch.setattr(Engine, "decide", lambda self, *given: asked.append(given) or len(asked) == 1)
    assert both.told.decide("1001@default", DECISION) is True
    assert both.told.decide("1001@default", DECISION) is False
    assert asked == [("1001@default", DECISION)] * 2

    def away(*_args: object) -> bool:
        raise DatabaseUnreachable("away")

    monkeypatch.setattr(Engine, "decide", away)
    with pytest.raises(DatabaseUnreachable, match="away"):
        both.told.decide("1001@default", DECISION)
    monkeypatch.setattr(Engine, "decide", lambda *_: 1 // 0)
    with pytest.raises(EngineAway, match="its log tells why"):
        both.told.decide("1001@default", DECISION)


def test_the_gates_say_the_same_at_both_ends(both: Both, ledger: Ledger):
    missed(ledger, 1)
    now = datetime.now(UTC)
    assert both.told.verdicts(ledger, 1, now) == both.inside.verdicts(ledger, 1, now)
    both.engine.sites[0].up = True
    verdicts, why = both.told.verdicts(ledger, 1, now)
    assert (verdicts, why) == both.inside.verdicts(ledger, 1, now)
    assert len(verdicts) == 3


def test_a_word_reaches_the_engine(both: Both, monkeypatch: pytest.MonkeyPatch):
    heard: list[str] = []
    monkeypatch.setattr(Engine, "wake", lambda self: heard.append("wake"))
    monkeypatch.setattr(Engine, "look_who_has_a_page", lambda self: heard.append("page"))
    both.told.wake()
    both.told.look_who_has_a_page()
    both.until(lambda: sorted(heard) == ["page", "wake"])


def test_an_engine_that_does_not_answer_is_an_error_soon(
    both: Both, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(told, "ANSWERED_WITHIN", 0.05)
    monkeypatch.setattr(told, "SILENT_AFTER", 0.05)
    both.work[0].kill()
    missed(ledger, 1)
    site = Site(ledger, both.told, both.told.gates, both.told.recall)
    asks = program(site)
    response = asks("GET", "/missed/1/why")
    assert response.status_code == 503
    assert "the engine does not answer" in response.json["detail"]
    add_user(ledger, "anna", Role.OPERATOR, agent="1001@default")
    monkeypatch.setattr(operator, "_own", lambda *_: 1)
    anna = Browser(site)
    anna.log_in()
    said = anna.http.post(
        "/me/say",
        data={"attempt": "1", "say": "accept"},
        headers={"Origin": ORIGIN, "X-CSRF-Token": anna.csrf, "HX-Request": "true"},
    )
    assert (said.status_code, "look before you repeat it" in said.text) == (503, True)
    both.until(lambda: not both.told.ready)
    for _ in range(500):  # more than wait for an engine that does not read
        both.told.wake()
    with pytest.raises(EngineAway):
        both.told.decide("1001@default", DECISION)
    assert both.told._asked == {}


def test_pages_that_ask_too_much_are_told_so(both: Both, monkeypatch: pytest.MonkeyPatch):
    never = gevent.event.Event()
    monkeypatch.setattr(Engine, "decide", lambda *_: never.wait())
    asking = [gevent.spawn(both.told.decide, "1001@default", DECISION) for _ in range(40)]
    both.until(lambda: sum(one.ready() for one in asking) == 8)
    assert all("too much" in str(one.exception) for one in asking if one.ready())
    board(both).agents = agents(1)
    both.until(lambda: same(both))
    never.set()
    gevent.joinall(asking, timeout=5, raise_error=False)


def test_a_message_has_a_bound(both: Both, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipes, "LARGEST", 1000)
    with pytest.raises(ValueError, match="a message of"):
        both.pipes[1].send("x" * 2000)


def test_hours_and_numbers_of_a_configuration_can_be_told():
    configuration = parse(
        'database.url = "sqlite:////x"\nfreeswitch = [{ password = "x" }]\n'
        'numbers = { allow = ["US"], extensions = ["1..."] }\n'
        'recall.caller_id_number = "+12025559999"\nrecall.holidays = ["US"]\n'
        f'recall.queues."{SUPPORT}".mode = "client-first"\n'
    )
    rules = engine_rules(configuration)
    assert list(rules.queues) == [SUPPORT]
    for value in (rules.gates(None), rules.recall(SUPPORT)):
        assert pickle.loads(pickle.dumps(value)) == value
