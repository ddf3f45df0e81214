"""Which agent calls which client now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.core import dispatch
from freeswitch_callback.core.callers import Callers
from freeswitch_callback.core.dispatch import Fairness, Operator, QueueRules, assign
from freeswitch_callback.core.facts import Due, Mode, Reason
from tests import recordings

NOW = 1_795_378_680.0
SUPPORT, SALES = "support@default", "sales@default"


def agent(name, *queues, **changes):
    tiers = dict.fromkeys(queues or (SUPPORT,), (1, 1))
    return Operator(name, "Available", "Waiting", f"user/{name}", tiers)._replace(**changes)


def recall(id_, queue=SUPPORT, called_at=NOW - 60):
    at = datetime.fromtimestamp(called_at, UTC)
    return Due(id_, "+12025550100", "default", queue, 0, 0, 0, at, id_, 30, Reason.ABANDONED, at)


def rules(mode=Mode.AGENT_FIRST, fairness=Fairness.LIVE_FIRST, prefer_agent=0.0):
    return lambda queue: QueueRules(mode, fairness, prefer_agent)


def callers(**waiting):
    line = Callers()
    for queue, since in waiting.items():
        line.sync(f"{queue}@default", {f"{queue}{at}": at for at in since})
    return line


def pairs(recalls, agents, line=None, rule=None, under_way=None):
    found = assign(recalls, agents, line or callers(), rule or rules(), under_way or {}, NOW)
    return [(a.recall.id, a.agent) for a in found]


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, True),
        ({"status": "Available (On Demand)"}, True),
        ({"status": "On Break"}, False),
        ({"status": "Logged Out"}, False),
        ({"state": "Receiving"}, False),
        ({"state": "In a queue call"}, False),
        ({"state": "Reserved"}, False),
        ({"state": "Idle"}, False),
        ({"free_from": NOW + 1}, False),
        ({"free_from": NOW}, True),
        ({"rests_until": NOW + 30}, False),
        ({"busy": True}, False),
    ],
)
def test_an_agent_is_free_when_the_queue_itself_would_call_them(changes, free):
    assert bool(dispatch.free([agent("1001", **changes)], NOW)) is free


@pytest.mark.parametrize(
    ("state", "serves"),
    [
        ("Ready", True), ("No Answer", True), ("Offering", True), ("Active Inbound", True), ("Standby", True),
        ("Unknown", False), ("", False),
    ],
)  # fmt: skip
def test_an_agent_on_a_call_serves_their_queues_all_the_same(state, serves):
    """Their tiers are read while they talk; no event tells of a tier when they get free."""
    assert dispatch.serving(state) is serves


def test_the_end_of_wrap_up_comes_without_an_event_so_its_time_is_kept():
    agents = [
        agent("1001", free_from=NOW + 30),
        agent("1002", rests_until=NOW + 12),
        agent("1003", busy=True),
    ]
    assert dispatch.next_free(agents, NOW) == NOW + 12
    assert dispatch.wrap_up_ends(last_bridge_end=100, wrap_up_time=30, ready_time=0) == 130
    assert dispatch.wrap_up_ends(last_bridge_end=0, wrap_up_time=30, ready_time=0) == 0
    assert dispatch.wrap_up_ends(last_bridge_end=100, wrap_up_time=5, ready_time=150) == 150


def test_the_longest_idle_agent_of_the_recalls_queue_takes_it():
    agents = dispatch.free(
        [agent("1001", idle_since=50), agent("1002", idle_since=10), agent("1003", SALES, idle_since=1)], NOW
    )
    assert pairs([recall(1)], agents) == [(1, "1002")]


def test_tier_level_and_position_go_before_idleness():
    second = agent("1002", idle_since=0)
    second = second._replace(tiers={SUPPORT: (2, 1)})
    assert pairs([recall(1)], [second, agent("1001", idle_since=99)]) == [(1, "1001")]


def test_never_more_recalls_than_free_agents():
    assert pairs([recall(1), recall(2), recall(3)], [agent("1001"), agent("1002")]) == [
        (1, "1001"),
        (2, "1002"),
    ]


def test_a_thousand_agents_and_as_many_recalls_are_each_looked_at_about_once(monkeypatch):
    looked_at = []
    may_take = dispatch._Left.may_take

    def counted(left, operator, *arguments):
        looked_at.append(operator.name)
        return may_take(left, operator, *arguments)

    monkeypatch.setattr(dispatch._Left, "may_take", counted)
    agents = [agent(str(number), idle_since=float(number)) for number in range(1000)]
    pairs = assign([recall(number) for number in range(1000)], agents, callers(), rules(), {}, NOW)
    assert [pair.agent for pair in pairs] == [str(number) for number in range(1000)]
    assert len(looked_at) < 3000


def test_no_more_recalls_are_looked_at_than_there_are_agents_left():
    asked_for = []

    def line():
        for number in range(10):
            asked_for.append(number)
            yield recall(number)

    assert pairs(line(), [agent("1001"), agent("1002")]) == [(0, "1001"), (1, "1002")]
    assert asked_for == [0, 1]


def test_a_recall_without_a_free_agent_does_not_hold_up_the_next():
    assert pairs([recall(1, SALES), recall(2)], [agent("1001")]) == [(2, "1001")]


def test_callers_who_wait_live_keep_their_agents():
    assert pairs([recall(1)], [agent("1001")], callers(support=[NOW])) == []


def test_a_free_agent_whom_no_caller_needs_takes_a_recall():
    """In a large centre somebody always waits for the moment that the next phone takes to ring."""
    three = [agent("1001"), agent("1002"), agent("1003")]
    assert pairs([recall(1), recall(2)], three, callers(support=[NOW])) == [(1, "1001"), (2, "1002")]
    assert pairs([recall(1), recall(2)], three, callers(support=[NOW, NOW - 1])) == [(1, "1001")]


def test_an_agent_whom_the_queue_would_call_later_does_not_count_for_a_caller():
    later = agent("1002")._replace(tiers={SUPPORT: (2, 1)})
    assert pairs([recall(1)], [agent("1001"), later], callers(support=[NOW])) == [(1, "1002")]


def test_an_agent_cannot_be_left_to_the_callers_of_two_queues():
    both = [agent("1001", SUPPORT, SALES), agent("1002", SUPPORT, SALES)]
    assert pairs([recall(1)], both, callers(support=[NOW], sales=[NOW])) == []


def test_the_callers_of_every_queue_that_the_agent_serves_count():
    assert pairs([recall(1)], [agent("1001", SUPPORT, SALES)], callers(sales=[NOW])) == []
    assert pairs([recall(1)], [agent("1001", SUPPORT)], callers(sales=[NOW])) == [(1, "1001")]


def test_by_arrival_a_recall_keeps_the_place_of_its_call():
    by_arrival = rules(fairness=Fairness.BY_ARRIVAL)
    line = callers(support=[NOW - 30])
    assert pairs([recall(1, called_at=NOW - 60)], [agent("1001")], line, by_arrival) == [(1, "1001")]
    assert pairs([recall(1, called_at=NOW - 10)], [agent("1001")], line, by_arrival) == []


def test_recall_first_does_not_look_at_the_line():
    rule = rules(fairness=Fairness.RECALL_FIRST)
    assert pairs([recall(1)], [agent("1001")], callers(support=[NOW]), rule) == [(1, "1001")]


def test_through_the_queue_nobody_is_reserved_and_a_free_agent_must_be_left():
    queue = rules(Mode.QUEUE)
    assert pairs([recall(1), recall(2)], [agent("1001"), agent("1002")], rule=queue) == [(1, None), (2, None)]
    assert pairs([recall(1)], [agent("1001")], callers(support=[NOW]), queue) == []
    assert pairs([recall(1)], [agent("1001"), agent("1002")], callers(support=[NOW]), queue) == [(1, None)]
    assert pairs([recall(1)], [agent("1001")], rule=queue, under_way={SUPPORT: 1}) == []


def test_through_the_queue_an_agent_of_two_queues_is_counted_once():
    queue = rules(Mode.QUEUE)
    both = agent("1001", SUPPORT, SALES)
    assert pairs([recall(1)], [both], rule=queue, under_way={SALES: 1}) == []
    assert pairs([recall(1)], [both], callers(sales=[NOW]), queue) == []


# --- the agent whom the client knows ------------------------------------------------------------------------

AN_HOUR = rules(prefer_agent=3600.0)
KNOWS_1002 = replace(recall(1), last_agent="1002")


def test_the_agent_whom_the_client_talked_to_last_goes_before_the_longest_idle():
    agents = [agent("1001", idle_since=1), agent("1002", idle_since=99)]
    assert pairs([KNOWS_1002], agents, rule=AN_HOUR) == [(1, "1002")]
    assert pairs([KNOWS_1002], agents) == [(1, "1001")]


def test_a_recall_waits_for_that_agent_and_lets_the_next_go_first():
    agents = [agent("1001"), agent("1002", state="In a queue call")]
    assert pairs([KNOWS_1002, recall(2)], agents, rule=AN_HOUR) == [(2, "1001")]


@pytest.mark.parametrize(
    "changes", [{"status": "Logged Out"}, {"status": "On Break"}, {"tiers": {SALES: (1, 1)}}]
)
def test_nobody_waits_for_an_agent_who_is_not_on_duty_in_that_queue(changes):
    agents = [agent("1001"), agent("1002", state="In a queue call")._replace(**changes)]
    assert pairs([KNOWS_1002], agents, rule=AN_HOUR) == [(1, "1001")]


def test_after_the_configured_time_any_agent_will_do():
    agents = [agent("1001"), agent("1002", state="In a queue call")]
    assert pairs([KNOWS_1002], agents, rule=rules(prefer_agent=60.0)) == [(1, "1001")]
    assert pairs([KNOWS_1002], agents, rule=rules(prefer_agent=61.0)) == []


def test_that_agent_is_left_to_the_callers_who_wait_all_the_same():
    assert pairs([KNOWS_1002], [agent("1002")], callers(support=[NOW]), AN_HOUR) == []


# --- why not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agents", "line", "rule", "told"),
    [
        ([agent("1001")], {}, rules(), ("fairness: live-first", "agent: free: 1001")),
        ([], {}, rules(), (None, f"agent: no agent of {SUPPORT} is on duty")),
        ([agent("1001", SALES)], {}, rules(), (None, f"agent: no agent of {SUPPORT} is on duty")),
        (
            [agent("1001", status="On Break")],
            {},
            rules(),
            (None, f"agent: none of the 1 agents of {SUPPORT} is on duty"),
        ),
        ([agent("1001", busy=True)], {}, rules(), (None, "agent: none of the 1 agents on duty is free")),
        (
            [agent("1001")],
            {"support": [NOW]},
            rules(),
            ("fairness: live-first: 1 who wait live come first", "agent: free: 1001"),
        ),
        ([agent("1001")], {"support": [NOW]}, rules(Mode.QUEUE), ("fairness: 1 free, 1 come first", None)),
        (
            [agent("1001"), agent("1002", busy=True)],
            {},
            AN_HOUR,
            (None, "agent: waits for 1002, whom the client talked to last"),
        ),
    ],
)
def test_why_says_who_is_missing(agents, line, rule, told):
    verdicts = dispatch.explain(KNOWS_1002, agents, callers(**line), rule, {}, NOW)
    for verdict, text in zip(verdicts, told, strict=True):
        assert text is None or str(verdict) == text


def test_why_says_when_the_next_agent_is_free():
    _, verdict = dispatch.explain(recall(1), [agent("1001", free_from=NOW + 30)], callers(), rules(), {}, NOW)
    assert verdict.opens_at == datetime.fromtimestamp(NOW + 30, UTC)


some_agent = st.builds(
    lambda name, queues, **changes: agent(name, *queues, **changes),
    st.sampled_from(["1001", "1002", "1003"]),
    st.sets(st.sampled_from([SUPPORT, SALES]), min_size=1),
    status=st.sampled_from(["Available", "On Break"]),
    state=st.sampled_from(["Waiting", "Receiving"]),
    free_from=st.sampled_from([0.0, NOW + 10]),
    busy=st.booleans(),
)


@given(
    st.lists(some_agent, unique_by=lambda o: o.name),
    st.lists(st.floats(NOW - 100, NOW), max_size=3),
    st.sampled_from([*Mode]),
    st.sampled_from([*Fairness]),
    st.sampled_from([0.0, 3600.0]),
)
def test_what_why_says_is_what_is_done(agents, waiting, mode, fairness, prefer):
    rule, line = rules(mode, fairness, prefer), callers(support=waiting)
    verdicts = dispatch.explain(KNOWS_1002, agents, line, rule, {}, NOW)
    assigned = assign([KNOWS_1002], agents, line, rule, {}, NOW)
    assert bool(assigned) is all(verdict.open for verdict in verdicts)


@given(
    st.lists(st.sampled_from([SUPPORT, SALES]), max_size=8),
    st.lists(st.sets(st.sampled_from([SUPPORT, SALES]), min_size=1), max_size=6),
    st.sampled_from([*Mode]),
    st.sampled_from([*Fairness]),
    st.lists(st.floats(NOW - 100, NOW), max_size=3),
)
def test_nobody_is_taken_twice_and_everybody_serves_the_queue(queues, tiers, mode, fairness, waiting):
    recalls = [recall(i, queue) for i, queue in enumerate(queues)]
    agents = [agent(f"a{i}", *served) for i, served in enumerate(tiers)]
    found = assign(recalls, agents, callers(support=waiting), rules(mode, fairness), {}, NOW)
    taken = [a.agent for a in found if a.agent]
    assert len(taken) == len(set(taken))
    assert len({a.recall.id for a in found}) == len(found) <= len(agents)
    serving = {a.name: a.tiers for a in agents}
    assert all(a.recall.queue in serving[a.agent] for a in found if a.agent)
    if mode is not Mode.QUEUE and fairness is Fairness.LIVE_FIRST and waiting:
        left = [a for a in agents if a.name not in taken and SUPPORT in a.tiers]
        assert not any(SUPPORT in serving[name] for name in taken) or len(left) >= len(set(waiting))


@pytest.mark.parametrize("name", recordings.NAMES)
def test_the_line_is_empty_when_the_story_is_over(name):
    line = Callers()
    longest = 0
    for event in recordings.events(name):
        line.feed(event)
        longest = max(longest, *(line.waiting(q) for q in (SUPPORT, SALES, "short@default")))
    assert all(line.waiting(q) == 0 for q in (SUPPORT, SALES, "short@default"))
    joins = any("member-queue" in (e.get("CC-Action") or "") for e in recordings.events(name))
    assert longest == (1 if joins else 0)


def test_a_caller_who_talks_does_not_wait_though_the_queue_still_counts_them():
    line = Callers()
    for event in recordings.events("answered"):
        line.feed(event)
        if event.name == "CHANNEL_BRIDGE":
            assert line.waiting(SUPPORT) == 0
            return
    pytest.fail("the recording has a bridge")


@pytest.mark.parametrize("fairness", list(Fairness))
def test_where_agents_accept_on_their_page_who_has_none_open_is_not_asked(fairness):
    def on_page(queue):
        return QueueRules(fairness=fairness, page=True)

    away, there = agent("1001", page=False), agent("1002")
    assert pairs([recall(1), recall(2)], [away, there], rule=on_page) == [(1, "1002")]
    assert pairs([recall(1)], [away, there]) == [(1, "1001")], "elsewhere it does not matter"
    assert dispatch.open_queues([away], callers(), on_page) == set()

    def why(*agents):
        told = dispatch.explain(recall(1), agents, callers(), on_page, {}, NOW)
        return next(str(verdict) for verdict in told if not verdict.open)

    assert why(away) == "agent: none of the 1 agents on duty has the page open"
    assert why(away._replace(busy=True)) == "agent: none of the 1 agents on duty has the page open"
    assert why(away, there._replace(busy=True)) == "agent: none of the 2 agents on duty is free"
