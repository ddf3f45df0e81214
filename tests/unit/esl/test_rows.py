"""Tables read row by row: what they hold, what is read again, and what is believed of a broken one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.errors import CommandFailed, ProtocolError
from freeswitch_callback.esl import commands
from freeswitch_callback.esl.callcenter import Agent, Tier
from freeswitch_callback.esl.rows import Reader, Table, row_of

ASKED = commands.tier_list()


def table(answer: str) -> Table:
    return Table(ASKED, answer, "response")


def answered(*rows: Any, **form: Any) -> Table:
    return table(json.dumps({"status": "success", "response": list(rows)}, **form))


def tier(agent: str, **more: str) -> dict[str, str]:
    return {"queue": "support@default", "agent": agent, "state": "Ready", "level": "1"} | more


@pytest.mark.parametrize("form", [{}, {"separators": (",", ":")}, {"indent": "\t"}])
def test_a_row_that_has_not_changed_is_the_same_object_as_before(form: dict[str, Any]) -> None:
    reader = Reader(Tier)
    first = list(reader.read(answered(tier("1001"), tier("1002"), tier("1003"), **form)))
    second = list(reader.read(answered(tier("1001"), tier("1002", level="2"), tier("1004"), **form)))
    assert first == [row_of(Tier, tier(agent)) for agent in ("1001", "1002", "1003")]
    assert second == [
        row_of(Tier, tier("1001")),
        row_of(Tier, tier("1002", level="2")),
        row_of(Tier, tier("1004")),
    ]
    if form.get("separators"):  # as FreeSWITCH writes it unless asked for something pretty
        assert second[0] is first[0]
    third = list(reader.read(answered(tier("1003"), tier("1002", level="2"), tier("1001"), **form)))
    assert third[0] is not first[2], "who was gone is forgotten"


def test_a_thousand_rows_that_are_known_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [tier(str(number)) for number in range(1000)]
    reader = Reader(Tier)
    before = list(reader.read(answered(*rows, separators=(",", ":"))))
    parsed = []
    decoded = Table._value
    monkeypatch.setattr(Table, "_value", lambda self: parsed.append(1) or decoded(self))
    after = list(reader.read(answered(*rows, separators=(",", ":"))))
    assert after == before
    assert len(parsed) < 10


def test_rows_are_there_before_the_last_one_is_read() -> None:
    cut = json.dumps({"status": "success", "response": [tier("1001"), tier("1002")]})[:-20]
    rows = Reader(Tier).read(table(cut))
    assert next(rows) == row_of(Tier, tier("1001"))
    with pytest.raises(ProtocolError, match="no JSON"):
        next(rows)


def test_an_answer_that_was_cut_makes_no_row_a_known_one() -> None:
    reader = Reader(Tier)
    [before] = reader.read(answered(tier("1001"), separators=(",", ":")))
    whole = json.dumps({"status": "success", "response": [tier("1002")]}, separators=(",", ":"))
    for end in range(1, len(whole)):
        with pytest.raises((ProtocolError, CommandFailed)):
            list(reader.read(table(whole[:-end])))
    [again, _] = reader.read(answered(tier("1001"), tier("1002"), separators=(",", ":")))
    assert again is before


texts = st.text(max_size=12) | st.sampled_from(
    ['"},{"', "},", "}]", "\\", '{"a":1},', "]}", "{^^:a=b}x", "\x1f\x7f"]
)
agents = st.fixed_dictionaries({"name": st.text(min_size=1, max_size=8), "contact": texts, "status": texts})


@given(st.lists(st.lists(agents, max_size=4), min_size=1, max_size=4))
def test_whatever_stands_in_them_rows_read_again_are_what_a_parser_reads(
    polls: list[list[dict[str, str]]],
) -> None:
    reader = Reader(Agent)
    for poll in polls:
        answer = json.dumps(
            {"status": "success", "response": poll}, separators=(",", ":"), ensure_ascii=False
        )
        parsed = json.loads(answer, strict=False)["response"]
        assert list(reader.read(table(answer))) == [row_of(Agent, row) for row in parsed]


@pytest.mark.parametrize(
    "more", ["x", "}", ',"a"', ',"a":', ',"a":1', "]", ",", '"a":1'], ids=lambda more: more
)
def test_what_stands_behind_the_rows_is_looked_at(more: str) -> None:
    good = '{"status":"success","response":[]}'
    assert list(Reader(Tier).read(table(good + "\n"))) == []
    assert list(Reader(Tier).read(table(good[:-1] + ',"format":"pretty"}'))) == []
    for wrong in (good + more, good[:-1] + more + "]"):
        with pytest.raises(ProtocolError):
            list(Reader(Tier).read(table(wrong)))


def test_nesting_without_end_is_no_answer() -> None:
    for answer in ("[" * 100_000, '{"a":' * 100_000, '{"status":"success","response":[' + "[" * 100_000):
        with pytest.raises(ProtocolError):
            list(Reader(Tier).read(table(answer)))
