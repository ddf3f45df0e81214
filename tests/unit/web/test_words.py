"""The catalogue is whole, and what people read is as they write it."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from freeswitch_callback.core import dispatch, facts, gates, lifecycle, numbers
from freeswitch_callback.core.dispatch import _SERVING, ON_DUTY
from freeswitch_callback.core.gates import Gate
from freeswitch_callback.web import words
from tests.hostile import TEXTS

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENGLISH, RUSSIAN = words.words("en"), words.words("ru")
_CALLS = {"_": None, "n_": (1, 2), "text": None, "texts": (1, 2), "tell": None}


def used() -> set[object]:
    folder = files("freeswitch_callback.web")
    methods = [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")]
    options = {"templates/**.html": {"silent": "false"}}
    found = extract_from_dir(str(folder), methods, options_map=options, keywords=_CALLS)
    return {message for _, _, message, _, _ in found}


def test_every_text_of_the_pages_is_translated_and_nothing_else():
    with files("freeswitch_callback.web").joinpath("locale/ru.po").open("rb") as file:
        catalogue = {message.id: message.string for message in read_po(file, locale="ru") if message.id}
    assert set(catalogue) == used()
    assert [text for text in catalogue.values() if not text or not all(text)] == []


_NOT_SAID = {
    "{} UTC",
    "{}: {}",
    "{}: open",
    "{}",
    ": ",
    ", ",
    " ",
    "free: ",
    "{}…",
    *(str(gate) for gate in Gate),
    *ON_DUTY,
    *_SERVING,
}
"""Texts in the core that no gate says; `free: ` is followed by names, `{}…` is a prefix."""


def said_by_gates() -> set[str]:
    """The texts in the core's modules of gates, `{}` for what is put in: each may come to the pages."""
    found = set()
    for module in (gates, dispatch, numbers):
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        inside = {id(below) for node in joined for part in node.values for below in ast.walk(part)}
        inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and id(node) not in inside:
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                found |= {node.value} if " " in node.value else set()
    return {text.removeprefix("number: ").removeprefix("country: ") for text in found - _NOT_SAID}


def test_whatever_a_gate_says_is_in_the_catalogue():
    """A text that is new in the core has to be put into `words.WHY`, and so into the catalogue."""
    known = {re.sub(r"%\(\w+\)s", "{}", text) for text in words.WHY}
    known |= {"{} recall", "{} recalls"}
    unknown = {text for text in said_by_gates() - known if not re.search(r"\[0-9\]|^%", text)}
    assert sorted(unknown) == []


@pytest.mark.parametrize(
    ("said", "russian"),
    [
        ("caps: 5 recalls to this number within 24 h", "5 обратных звонков на этот номер за 24 ч"),
        ("caps: 1 recall to +1202555… within an hour", "1 обратный звонок на +1202555… за час"),
        ("country: DE is not in numbers.allow", "DE нет в numbers.allow"),
        ("do not call: +4930* is on the list (a joker) until 2026-11-23 08:00 UTC",
         "+4930* в списке (a joker) до 2026-11-23 08:00 UTC"),
        ("calling hours: opens Mon 09:00 Europe/Moscow", "откроется пн 09:00 Europe/Moscow"),
        ("calling hours: opens Mon 2026-12-07 09:00 Asia/Omsk (open in all 3 time zones of the number)",
         "откроется пн 2026-12-07 09:00 Asia/Omsk (когда открыто во всех часовых поясах номера, их 3)"),
        ("breaker: all recalls to +1… are stopped since 2026-11-23 08:00 UTC; opens by `breaker reset`",
         "все звонки на +1… остановлены с 2026-11-23 08:00 UTC; снимается командой `breaker reset`"),
        ("agent: none of the 3 agents of a b@x is on duty", "никто из операторов a b@x (их 3) не на месте"),
        ("due: the recall is claimed", "состояние: предложен оператору"),
        ("number: said by nobody", "said by nobody"),
        ("short rings: <b>%s %(x)s</b>", "<b>%s %(x)s</b>"),
    ],
)  # fmt: skip
def test_what_a_gate_says_is_told_in_the_readers_language(said, russian):
    gate = said.partition(": ")[0]
    assert RUSSIAN.gate(said) == f"{RUSSIAN.word(words.GATES, gate)}: {russian}"
    assert ENGLISH.gate(said) == f"{words.GATES[gate]}: {said.partition(': ')[2]}"


@pytest.mark.parametrize("text", TEXTS)
def test_whatever_stands_in_a_note_is_told(text):
    assert text in RUSSIAN.why(f"+4930123456 is on the list ({text})")
    assert RUSSIAN.gate(text) is not None


@pytest.mark.parametrize(
    "table", ["REASONS", "STATES", "CLOSED_AS", "OUTCOMES", "RESULTS", "GATES", "GATE_NAMES"]
)
def test_every_code_has_a_word(table):
    kinds = {
        "REASONS": facts.Reason, "STATES": lifecycle.State, "CLOSED_AS": facts.ClosedAs,
        "OUTCOMES": facts.Outcome, "RESULTS": facts.Result, "GATES": gates.Gate, "GATE_NAMES": gates.Gate,
    }  # fmt: skip
    assert set(getattr(words, table)) == {str(each) for each in kinds[table]}


@pytest.mark.parametrize(
    ("seconds", "english", "russian"),
    [
        (0, "0 s", "0 с"),
        (45.4, "45 s", "45 с"),
        (125, "2 min 5 s", "2 мин 5 с"),
        (3600 + 61, "1 h 1 min", "1 ч 1 мин"),
        (None, "–", "–"),
    ],
)
def test_lengths_of_time(seconds, english, russian):
    assert ENGLISH.length(seconds).replace("\N{NO-BREAK SPACE}", " ") == english
    assert RUSSIAN.length(seconds).replace("\N{NO-BREAK SPACE}", " ") == russian


def test_times_as_people_say_them():
    assert ENGLISH.ago(NOW - timedelta(minutes=3), NOW) == "3 minutes ago"
    assert RUSSIAN.ago(NOW + timedelta(hours=2), NOW) == "через 2 часа"


@pytest.mark.parametrize(("number", "said"), [(1, "1 день"), (3, "3 дня"), (7, "7 дней")])
def test_numbers_bend_their_words(number, said):
    assert RUSSIAN.texts("%(days)s day", "%(days)s days", number).replace("%(days)s", str(number)) == said


@pytest.mark.parametrize(
    ("number", "shown"),
    [("+12025550100", "+1 202-555-0100"), ("1001", "1001"), ("", ""), (None, ""), ("+<b>", "+<b>")],
)
def test_a_number_is_shown_as_people_read_it(number, shown):
    assert words.phone(number) == shown


def test_an_unknown_language_or_code_is_no_error():
    assert words.words("xx").language == "en"
    assert RUSSIAN.word(words.REASONS, "something new") == "something new"
