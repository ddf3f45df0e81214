"""The example, what is in force, and the way back from a value to its text."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as some

from freeswitch_callback.cli import config_text
from freeswitch_callback.config import SECTIONS, Configuration, parse
from freeswitch_callback.config_values import (
    as_duration,
    as_folders,
    as_hours,
    as_list_of,
    as_retry,
    as_text,
    as_zones,
)
from freeswitch_callback.core.hours import ALWAYS, Window

PASSWORD = {"FREESWITCH_CALLBACK_FS1_PASSWORD": "s3cret"}
SMALL = '[[freeswitch]]\npassword = "s3cret"\n'
ALL_KEYS = [key for section in SECTIONS for key in config_text.keys(section)]


def named(key):
    return f"{key.section}.{key.name}"


def test_the_example_as_it_stands_is_the_defaults():
    assert parse(config_text.example(), PASSWORD) == parse(SMALL, {})


def test_the_example_with_every_key_written_is_the_defaults_too():
    uncommented = re.sub(r"^#(?=[a-z_]+ = |\[web\])", "", config_text.example(), flags=re.MULTILINE)
    text = uncommented.partition("#[[webhook]]")[0]  # which has keys without a default
    written = tomllib.loads(text)
    assert set(written["recall"]) >= {"mode", "retry", "hours", "poll"}
    assert set(written["web"]) >= {"listen", "session_idle"}
    assert parse(text, PASSWORD) == parse(SMALL + "[web]\n", {})


@pytest.mark.parametrize("key", ALL_KEYS, ids=named)
def test_every_key_says_what_it_means(key):
    assert key.means.endswith("."), "a sentence"
    assert key.default is not None or key.example is not None, "a default, or an example of what it takes"


@pytest.mark.parametrize("key", [key for key in ALL_KEYS if key.example is not None], ids=named)
def test_an_example_of_a_key_is_one(key):
    if key.section in ("freeswitch", "webhook"):
        table = tomllib.loads(f"{key.name} = {key.example}")
        assert all(isinstance(value, str) for value in table.values())
        return
    text = f"{SMALL}[{key.section}]\n{key.name} = {key.example}\n"
    if key.name in ("password_file", "tls_certificate", "tls_key"):
        # That key, and not another, was understood.
        with pytest.raises(Exception, match=r"cannot be read|is missing"):
            parse(text, {})
        return
    usual, changed = parse(SMALL, {}), parse(text, {})
    assert getattr(changed, key.section) != getattr(usual, key.section)


def test_every_section_of_the_configuration_is_written():
    kept = {
        field.name.removesuffix("hooks") + "hook" * field.name.endswith("hooks")
        for field in fields(Configuration)
    }
    assert set(SECTIONS) == kept - {"queues", "poll"}
    assert all(kind.__doc__ and "(" not in kind.__doc__.splitlines()[0] for kind in SECTIONS.values())


def test_what_is_in_force_is_a_file_that_says_the_same():
    configuration = parse(
        SMALL
        + """
[capture]
direct = [{ context = "it's", destination = '^10\\d"\\d$', queue = "a@b" }]
cdr_folder = ["/a", "/b"]
[numbers]
extensions = ['1\\d{3}', "it's"]
zones = { RU = "Europe/Moscow", US = "America/Chicago" }
own = ["+12025559999"]
[caps]
breaker = { recalls = 3, within = "90m" }
[recall]
caller_id_number = "+12025559999"
hours = [{ days = "mon,wed-fri,sun", to = "24:00" }, { days = "sat", from = "10:30", to = "11:00" }]
min_talk = 2.5
retry = { growth = 1.5 }
poll = "1d"
[recall.queues."sup.port@x"]
hours = "always"
mode = "queue"
[web]
listen = "[::1]:8443"
links = { CRM = "https://crm.example/?q={number}" }
[[webhook]]
name = "crm"
url = "https://crm.example/hook"
secret = "s3cret-s3cret-s3cret"
""",
        {},
    )
    text = "\n".join(config_text.shown(configuration))
    assert "s3cret" not in text
    told = text.replace(f'secret = "{config_text.HIDDEN}"', 'secret = "s3cret-s3cret-s3cret"')
    assert parse(told.replace(config_text.HIDDEN, "s3cret"), {}) == configuration
    assert re.search(r"^attempts = 3 +# default$", text, re.MULTILINE)
    assert re.search(r"^min_talk = 2\.5$", text, re.MULTILINE)
    assert re.search(r"^attempts = 3 +# as in \[recall\]$", text, re.MULTILINE)
    assert re.search(r'^mode = "queue"$', text, re.MULTILINE)


def test_no_password_is_shown_and_where_it_stands_is(monkeypatch, tmp_path):
    monkeypatch.setenv("FREESWITCH_CALLBACK_DATABASE_PASSWORD", "hunter2")
    file = tmp_path / "fs1"
    file.write_text("hunter3\n")
    configuration = parse(
        'database.url = "postgresql://me:hunter1@host/db?password=hunter4"\n'
        f'freeswitch = [{{ password_file = "{file}" }}]\n'
    )
    text = "\n".join(config_text.shown(configuration))
    assert "hunter" not in text
    assert '"postgresql://me:***@host/db?password=***"' in text
    assert re.search(r"^password = .* # \$FREESWITCH_CALLBACK_DATABASE_PASSWORD$", text, re.MULTILINE)
    assert re.search(rf"^password = .* # {file}$", text, re.MULTILINE)


def back(value, parser):
    return parser(tomllib.loads(f"x = {config_text.toml(value, parser)}")["x"])


@given(some.floats(0, 366 * 86400.0) | some.integers(0, 366 * 86400).map(float))
def test_any_length_of_time_is_written_as_it_is_read(seconds):
    assert back(seconds, as_duration) == seconds


@given(some.text().filter(lambda text: text.isprintable() or "\x7f" in text))
def test_any_text_is_written_as_it_is_read(text):
    assert back(text, as_text) == text
    assert back((text,), as_list_of(as_text)) == (text,)


@given(
    some.lists(
        some.builds(
            Window,
            some.frozensets(some.integers(0, 6), min_size=1),
            some.integers(0, 700),
            some.integers(701, 1440),
        ),
        min_size=1,
    ).map(tuple)
)
def test_any_hours_are_written_as_they_are_read(windows):
    assert back(windows, as_hours) == windows


@pytest.mark.parametrize(
    ("value", "parser"),
    [
        (ALWAYS.windows, as_hours),
        ((), as_zones),
        ((("DE", "Europe/Berlin"), ("RU", "Europe/Moscow")), as_zones),
        (as_retry({"growth": 2, "jitter": 0.25}), as_retry),
        ({}, as_folders),
        ({"fs.1": ("/a b", "/c")}, as_folders),
    ],
)
def test_what_is_more_than_one_value_is_written_as_it_is_read(value, parser):
    assert back(value, parser) == value
