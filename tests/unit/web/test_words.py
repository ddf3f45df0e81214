"""The catalogue is whole, and what people read is as they write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from freeswitch_callback.web import words

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


@pytest.mark.parametrize("table", ["REASONS", "STATES", "CLOSED_AS", "OUTCOMES", "RESULTS", "GATES"])
def test_every_code_has_a_word(table):
    from freeswitch_callback.core import facts, gates, lifecycle

    kinds = {
        "REASONS": facts.Reason, "STATES": lifecycle.State, "CLOSED_AS": facts.ClosedAs,
        "OUTCOMES": facts.Outcome, "RESULTS": facts.Result, "GATES": gates.Gate,
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
