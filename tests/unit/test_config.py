"""What people write into the configuration file, and what they are told."""

from __future__ import annotations

import pytest

from freeswitch_callback.cli.context import gate_rules
from freeswitch_callback.cli.engine_rules import engine_rules, recall_rules
from freeswitch_callback.config import load, parse
from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.core.hours import ALWAYS, Window
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.errors import ConfigurationError

SMALL = """
[[freeswitch]]
password = "s3cret"
"""


def read(text, environ=None):
    return parse(SMALL + text, environ or {})


def test_five_lines_are_enough_and_everything_else_has_a_default():
    configuration = read("")
    [node] = configuration.freeswitch
    assert (node.name, node.host, node.port, node.password) == ("fs1", "127.0.0.1", 8021, "s3cret")
    assert configuration.database.url == "sqlite:///var/lib/freeswitch-callback/callback.db"
    assert configuration.recall.mode is Mode.AGENT_FIRST
    delays = {"busy": 300.0, "no_answer": 1800.0, "failed": 900.0, "growth": 1.0, "jitter": 0.1}
    assert configuration.recall.retry == delays
    assert configuration.recall.hours == (Window(frozenset({0, 1, 2, 3, 4}), 9 * 60, 20 * 60),)
    assert configuration.recall.holidays == ("client",)
    assert configuration.numbers.rules() == NumberRules()
    assert configuration.caps.rules(at_once=0) == CapRules()
    assert configuration.poll == 5.0


def test_one_queue_may_differ_in_any_key():
    configuration = read("""
[recall]
attempts = 5
fairness = "by-arrival"
[recall.queues."support@default"]
mode = "client-first"
retry = { busy = "1m" }
""")
    support, sales = configuration.recall_for("support@default"), configuration.recall_for("sales@default")
    assert (support.mode, support.attempts, support.fairness) == (Mode.CLIENT_FIRST, 5, Fairness.BY_ARRIVAL)
    assert support.retry["busy"] == 60.0
    assert (sales.mode, sales.retry["busy"]) == (Mode.AGENT_FIRST, 300.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[recal]\n", "recal: no such key; did you mean recall?"),
        ("[recall]\nmodus = 1\n", "recall.modus: no such key; did you mean recall.mode?"),
        ('[recall.queues."q"]\natempts = 1\n', 'recall.queues."q".atempts: no such key; did you mean'),
        ("[recall]\nattempts = 0\n", "recall.attempts must be a whole number from 1 to 100, not 0"),
        ("[recall]\nattempts = true\n", "recall.attempts must be a whole number"),
        (
            '[recall]\nmode = "both"\n',
            "recall.mode must be one of agent-first, client-first, queue, not 'both'",
        ),
        ('[recall]\nexpire = "soon"\n', 'recall.expire must be a duration like "30s", "5m" or "1h30m"'),
        ('[recall]\nexpire = "0s"\n', "recall.expire must be longer than 0 s"),
        ('[recall]\npoll = ""\n', "recall.poll must be a duration"),
        (
            "[recall]\nretry = { bussy = 1 }\n",
            "recall.retry has no 'bussy'; it has busy, no_answer, failed, growth, jitter",
        ),
        (
            '[recall]\ndial_string = "sofia/gateway/main"\n',
            "recall.dial_string must have {number} in it once",
        ),
        ('[recall]\ndial_string = "a/{number},b/1"\n', "recall.dial_string must be one destination"),
        ('[recall]\ndial_string = "{x=1}a/{number}"\n', "recall.dial_string must be one destination"),
        ('[recall]\ncaller_id_number = "x"\n', "recall.caller_id_number must be digits"),
        ('[recall]\ncaller_id_number = "+"\n', "recall.caller_id_number must be digits"),
        ('[recall]\ncaller_id_number = "+012345"\n', "recall.caller_id_number must be digits"),
        ('[recall]\ndial_string = "{number}"\n', "recall.dial_string must be one destination"),
        ("[recall]\nring_timeout = inf\n", "recall.ring_timeout must be a duration"),
        ("[recall]\nring_timeout = 0.2\n", "recall.ring_timeout must be from 1s to 10m"),
        ('[recall]\nexpire = "999999d"\n', "recall.expire must be a year at most"),
        ('[numbers]\nallow = ["UK"]\n', 'numbers.allow must be an ISO 3166 country like "US" or "GB"'),
        ('[[freeswitch]]\nname = "b"\npassword = "x"\nhost = "a..b"\n', "freeswitch[2].host must be a name"),
        ('[[freeswitch]]\nname = "b"\npassword = "x\\n"\n', "freeswitch[2].password has a control character"),
        ('[numbers]\nallow = ["USA"]\n', 'numbers.allow must be an ISO 3166 country like "US"'),
        ('[numbers]\nown = ["0301234"]\n', "numbers.own must be a number in E.164"),
        ("[numbers]\nallow = 1\n", "numbers.allow must be a list, not 1"),
        ('[capture]\ndirect = [{ context = "x" }]\n', "capture.direct must be like { context ="),
        (
            '[capture]\ndirect = [{ context = "x", destination = "(", queue = "q" }]\n',
            "capture.direct has a destination that is no regular expression",
        ),
        ("[recall]\nretry = { growth = 0.5 }\n", "must be a number from 1 to 10, not 0.5"),
        ("[recall]\nretry = { jitter = true }\n", "must be a number from 0 to 1, not True"),
        ('[recall]\nhours = "never"\n', 'recall.hours must be like { days = "mon-fri", from ='),
        ("[recall]\nhours = { to = 20 }\n", "must be a text, not 20"),
        ('[recall]\nhours = { to = "25:00" }\n', 'a time must be like "09:00", from "00:00" to "24:00"'),
        ('[recall]\nhours = { to = "24:01" }\n', 'a time must be like "09:00", from "00:00" to "24:00"'),
        ('[recall]\nhours = { from = "22:00", to = "06:00" }\n', "hours over midnight are two"),
        ('[recall]\nhours = { days = "mo-fr" }\n', 'days must be like "mon-fri" or "mon,wed,sat-sun"'),
        ('[recall]\nhours = { day = "mon" }\n', "has no 'day'; it has days, from, to"),
        ('[recall]\nzone = "Mars/Phobos"\n', 'recall.zone must be a time zone like "Europe/Berlin"'),
        ('[recall]\nzone = "../etc/passwd"\n', 'recall.zone must be a time zone like "Europe/Berlin"'),
        ('[recall]\nholidays = ["XX"]\n', "recall.holidays"),
        ('[numbers]\ntypes = ["premium"]\n', "numbers.types must be of fixed_line, "),
        ('[numbers]\ndeny_prefixes = ["030"]\n', "numbers.deny_prefixes must be the beginning of numbers"),
        ('[numbers]\nextensions = ["("]\n', "numbers.extensions must be a regular expression like"),
        ('[numbers]\nzones = { RU = "Moscow" }\n', "numbers.zones must be a time zone like"),
        ('[numbers]\nzones = { EU = "Europe/Berlin" }\n', "numbers.zones must be an ISO 3166 country"),
        ("[caps]\nper_number = -1\n", "caps.per_number must be a whole number from 0 to 1000, not -1"),
        ("[caps]\nbreaker = { calls = 3 }\n", "caps.breaker has no 'calls'; it has recalls, within"),
        ("[cap]\n", "cap: no such key; did you mean caps?"),
        ("[database]\nurl = 1\n", "database.url must be a text, not 1"),
        ("database = 1\n", "database must be a section"),
        ("[[freeswitch]]\npassword = 'x'\n", "freeswitch[2].name: 'fs1' is there twice"),
        (
            '[[freeswitch]]\nname = "b"\n',
            "freeswitch[2].password is missing; write it, or password_file, or set",
        ),
        ('[[freeswitch]]\nname = "b c"\npassword = "x"\n', "freeswitch[2].name must be letters"),
        (
            '[[freeswitch]]\nname = "b"\npassword = "x"\nport = 70000\n',
            "freeswitch[2].port must be a whole number",
        ),
        ("x = [", "not TOML"),
        ("x = " + "[" * 20_000, "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_to_write(text, said):
    with pytest.raises(ConfigurationError) as error:
        parse(text + SMALL if text.startswith(("database = ", "x = ")) else SMALL + text, {})
    assert said in str(error.value)


def test_calling_hours_are_written_as_people_write_them():
    def hours(text):
        return [(sorted(w.days), w.start, w.end) for w in read(f"[recall]\nhours = {text}\n").recall.hours]

    everyday = [0, 1, 2, 3, 4, 5, 6]
    assert hours('"always"') == [(everyday, 0, 1440)]
    assert hours("{}") == [(everyday, 0, 1440)]
    assert hours('{ days = "mon-fri", from = "09:00", to = "20:00" }') == [([0, 1, 2, 3, 4], 540, 1200)]
    assert hours('{ days = "Mon, wed,sat-sun", to = "9:30" }') == [([0, 2, 5, 6], 0, 570)]
    assert hours('{ days = "fri-mon", to = "24:00" }') == [([0, 4, 5, 6], 0, 1440)]
    assert hours('[{ days = "mon", to = "12:00" }, { days = "mon", from = "14:00" }]') == [
        ([0], 0, 720),
        ([0], 840, 1440),
    ]


def test_what_gates_go_by_is_read_for_each_queue():
    configuration = read("""
[numbers]
default_region = "DE"
allow = ["DE", "RU"]
types = ["mobile"]
allow_prefixes = ["+881"]
deny_prefixes = ["+4930"]
extensions = ['1[0-9]{3}']
shared = ["+4930123456"]
zones = { RU = "Europe/Moscow" }
[caps]
per_number = 2
breaker = { recalls = 7 }
[recall]
zone = "Europe/Berlin"
holidays = ["client", "DE-BY"]
[recall.queues."night@default"]
hours = "always"
holidays = []
at_once = 3
priority = 5
prefer_agent = "10m"
""")
    day, night = (gate_rules(configuration, queue) for queue in ("day@default", "night@default"))
    assert day.numbers.zones == (("RU", "Europe/Moscow"),)
    assert day.numbers.extensions[0].fullmatch("1001")
    assert (day.hours.holidays, night.hours) == (("client", "DE-BY"), ALWAYS)
    assert (day.caps.at_once, night.caps.at_once, night.priority) == (0, 3, 5)
    assert (day.caps.per_number, day.caps.breaker, day.caps.breaker_within) == (2, 7, 600.0)
    assert recall_rules(configuration, "night@default").prefer_agent == 600.0
    assert hash(day) != hash(night)


def test_a_page_that_accepts_needs_an_agent_to_ask():
    configuration = read("""
[recall]
caller_id_number = "+12025559999"
accept = "page"
[recall.queues."night@default"]
accept = "phone"
mode = "queue"
""")
    assert recall_rules(configuration, "day@default").accept_within == 20.0
    assert recall_rules(configuration, "night@default").accept_within is None
    engine_rules(configuration)
    with pytest.raises(ConfigurationError, match=r'recall.accept = "page" needs an agent'):
        engine_rules(read('[recall]\ncaller_id_number = "+12025559999"\naccept = "page"\nmode = "queue"\n'))


def test_without_a_server_there_is_nothing_to_do():
    with pytest.raises(ConfigurationError, match=r"\[\[freeswitch\]\]"):
        parse("", {})


def test_the_stock_password_is_refused_beyond_this_machine():
    text = '[[freeswitch]]\nhost = "192.0.2.1"\npassword = "ClueCon"\n'
    with pytest.raises(ConfigurationError, match=r"freeswitch\[1\]\.password .* event_socket\.conf\.xml"):
        parse(text, {})
    for host in ("127.0.0.1", "::1", "localhost"):
        assert parse(text.replace("192.0.2.1", host), {}).freeswitch[0].password == "ClueCon"


def test_secrets_may_stand_elsewhere(tmp_path):
    (tmp_path / "pw").write_text("from-a-file\n")
    (tmp_path / "fs-1.password").write_text("from-systemd\n")
    named = f'[[freeswitch]]\nname = "fs-1"\npassword_file = "{tmp_path}/pw"\n'
    bare = '[[freeswitch]]\nname = "fs-1"\n'
    assert parse(named, {}).freeswitch[0].password == "from-a-file"
    assert parse(bare, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).freeswitch[0].password == "from-systemd"
    assert (
        parse(named, {"FREESWITCH_CALLBACK_FS_1_PASSWORD": "from-env\n"}).freeswitch[0].password == "from-env"
    )
    database = read("", {"FREESWITCH_CALLBACK_DATABASE_PASSWORD": "db"}).database
    assert database.password == "db"
    (tmp_path / "pw").unlink()
    with pytest.raises(ConfigurationError, match=r"password file .* cannot be read"):
        parse(named, {})


def test_a_file_that_is_not_there_or_not_text_is_said_so(tmp_path):
    with pytest.raises(ConfigurationError, match="no such file; write one, or name another with --config"):
        load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"bad\.toml: cannot be read"):
        load(tmp_path / "bad.toml")
    (tmp_path / "wrong.toml").write_text("[nope]\n" + SMALL)
    with pytest.raises(ConfigurationError, match=r"wrong\.toml: nope: no such key"):
        load(tmp_path / "wrong.toml")


@pytest.mark.parametrize(
    ("text", "seconds"), [('"90s"', 90), ('"5m"', 300), ('"1h30m"', 5400), ('"2d"', 172800), ("45", 45)]
)
def test_durations_are_written_as_people_write_them(text, seconds):
    assert read(f"[recall]\nexpire = {text}\n").recall.expire == seconds
