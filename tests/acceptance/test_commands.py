"""The command line as people use it, and what they are told when something is wrong."""

from __future__ import annotations

import csv
import io
import os
import pty
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import click
import gevent
import pytest

from freeswitch_callback import cli
from freeswitch_callback.core.facts import Reason
from freeswitch_callback.ledger import Ledger
from tests.acceptance.conftest import CLIENT, SUPPORT, Shell

AGENT = "1001@default"


def test_json_is_one_object_a_line_with_the_columns_that_programs_rely_on(shell, house):
    called = datetime(2026, 11, 22, 20, 18, 0, 26707, UTC)
    house.missed(calldate=called, timewait=37, calledid="3000", extra={"language": "ru"}, caller_name="Иван")
    [row] = shell.json("list")
    assert row | {"due_at": None, "call_uuid": None} == {
        "id": 1, "phone": CLIENT, "calldate": "2026-11-22T20:18:00.026707Z", "calledid": "3000",
        "timewait": 37, "reason": "abandoned", "operator": None, "recalldate": None, "node": "fs1",
        "recalloperator": None,
        "call_uuid": None, "member_uuid": None, "queue": SUPPORT, "number": CLIENT, "caller_name": "Иван",
        "hangup_cause": "", "extra": {"language": "ru"}, "recall": 1, "state": "waiting", "attempts": 0,
        "due_at": None, "closed_as": None, "note": "", "gate": None,
    }  # fmt: skip
    assert row["due_at"].endswith("Z")


def test_a_list_is_as_long_as_one_screen_unless_told(shell, house):
    for i in range(60):
        house.missed(phone=f"+1202555{i:04}")
    assert len(shell.json("list")) == 50
    assert len(shell.json("list", "--limit", 55)) == 55
    assert [r["id"] for r in shell.json("list", "--limit", 2)] == [60, 59]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        (["--state", "waiting"], [3, 2]),
        (["--state", "closed"], [1]),
        (["--reason", "busy"], [2]),
        (["--queue", "sales@default"], [3]),
        (["--number", "+12025550102"], [2]),
        (["--since", "90m"], [3]),
        (["--until", "90m"], [2, 1]),
        (["--older-than", "4h"], [1]),
        (["--since", "2099-01-01"], []),
        (["--queue", SUPPORT, "--state", "waiting"], [2]),
    ],
)
def test_the_filters_choose(shell, house, filters, ids):
    now = datetime.now(UTC)
    house.missed(phone="anonymous", calldate=now - timedelta(hours=5))
    house.missed(phone="+12025550102", reason=Reason.BUSY, calldate=now - timedelta(hours=2))
    house.missed(phone="+12025550103", queue="sales@default", calldate=now - timedelta(hours=1))
    assert [row["id"] for row in shell.json("list", *filters)] == ids


def test_a_spreadsheet_gets_no_formula_and_a_terminal_no_control(shell, house):
    house.missed(caller_name='=HYPERLINK("http://x")', phone="\x1b[2J\x1b]0;x\x07")
    _, out, _ = shell("list", "--format", "csv")
    [row] = csv.DictReader(io.StringIO(out))
    assert row["caller_name"] == '\'=HYPERLINK("http://x")'
    _, out, _ = shell("list")
    assert "\x1b" not in out
    _, out, _ = shell("show", 1)
    assert "\x1b" not in out
    assert "=HYPERLINK" in out


def test_show_tells_the_whole_story(shell, house, sim):
    house.engine()
    house.gave_up()
    house.free()
    house.row(state="closed")
    status, out, _ = shell("show", 1)
    assert status == 0
    for what in (
        CLIENT,
        "recalled",
        "outcome=connected",
        "what=opened",
        "what=claimed",
        "what=closed",
        AGENT,
    ):
        assert what in out
    [story] = shell.json("show", 1)
    assert story["attempts"][0]["outcome"] == "connected"


def test_replay_calls_back_again(shell, house, sim):
    engine = house.engine()
    house.missed()
    house.free()
    house.row(state="closed")
    house.stop(engine)
    assert shell("replay", 1, "--dry-run")[1] == "would replay the recalls of missed calls: 1\n"
    assert house.row()["state"] == "closed"
    status, out, _ = shell("replay", 1)
    assert (status, out) == (0, "replayed: 1\n")
    assert house.row()["attempts"] == 0
    house.engine()
    house.row(state="closed")
    assert len(sim.dialled) == 2


def test_close_calls_nobody_and_says_who_and_why(shell, house):
    house.missed()
    assert shell("close", 1, "--note", "solved by mail")[:2] == (0, "closed: 1\n")
    row = house.row(state="closed")
    assert (row["closed_as"], row["note"]) == ("cancelled", "solved by mail")
    assert shell("close", 1)[1] == "closed: 0\n"


def test_purge_asks_spares_what_is_open_and_deletes_the_rest(shell, house, monkeypatch):
    house.missed(phone="anonymous", calldate=datetime.now(UTC) - timedelta(days=100))
    house.missed()
    goes_too = "1, with 1 recalls, 1 lines of the journal\n"
    assert shell("purge", "--all", "--dry-run")[1] == f"would delete missed calls for good: {goes_too}"
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, out, _ = shell("purge", "--all")
    assert status == 0
    assert "purged: 0" in out
    assert len(house.rows()) == 2
    status, out, _ = shell("purge", "--older-than", "90d", "--yes")
    assert (status, out) == (0, f"to delete missed calls for good: {goes_too}purged: 1\n")
    assert [row["state"] for row in house.rows()] == ["waiting"]


def test_add_has_a_number_called_back(shell, house, sim):
    status, _, err = shell("add", "030 123456", "--queue", SUPPORT)
    assert status == 2
    assert "'030 123456' is not a number that can be called" in err
    assert shell("add", "(202) 555-0200", "--queue", SUPPORT, "--name", "Anna")[:2] == (0, "added as 1\n")
    status, out, _ = shell("add", "+18765551234", "--queue", SUPPORT)
    assert (status, out) == (
        0,
        "added as 2, but it will not be called: country: JM is not in numbers.allow\n",
    )
    house.engine()
    house.free()
    row = house.row(closed_as="recalled")
    assert (row["reason"], row["number"], row["caller_name"]) == ("manual", CLIENT, "Anna")
    assert [d.number for d in sim.dialled] == [CLIENT]


def test_agents_are_listed_as_freeswitch_sees_them(shell, sim):
    sim.set_status(AGENT, "On Break")
    rows = {row["agent"]: row for row in shell.json("agents")}
    assert (rows[AGENT]["status"], rows[AGENT]["queues"]) == ("On Break", SUPPORT)
    assert len(rows) == 2


def test_check_says_line_by_line_that_all_is_well(shell, sim):
    status, out, _ = shell("check")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["ok", "configuration:"],
        ["ok", "database:"],
        ["ok", "fs1:"],
        ["ok", "fs1:"],
        ["ok", "fs1:"],
        ["ok", "fs1:"],
    ]
    assert f"queue {SUPPORT}: 2 agents, 0 available" in out


def test_check_names_what_is_not_well_and_what_to_do(shell, sim):
    sim.callcenter.queues[SUPPORT].discard_abandoned_after = 5
    status, out, _ = shell("check")
    assert status == 0
    assert "warning" in out
    assert "discard-abandoned-after is 5 s" in out
    sim.stop()
    status, out, _ = shell("check")
    assert status == 4
    assert "bad      fs1: " in out
    shell.path.write_text("[recal]\n")
    status, out, _ = shell("check")
    assert status == 3
    assert "recal: no such key; did you mean recall?" in out


def test_a_wrong_password_is_said_so(shell, sim):
    shell.path.write_text(shell.path.read_text().replace(sim.password, "wrong"))
    status, out, _ = shell("check")
    assert status == 4
    assert "refused the password" in out
    assert "event_socket.conf.xml" in out
    assert shell("agents")[0] == 4


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["show", "99"], 1, "there is no missed call 99"),
        (["replay", "99"], 1, "there is no missed call 99; `freeswitch-callback list` shows"),
        (["replay"], 2, "replay what? Name an ID, a filter such as --state or --older-than, or --all"),
        (["purge"], 2, "purge what?"),
        (["close"], 2, "close what?"),
        (["list", "--since", "yesterday-ish"], 2, "not a time: 'yesterday-ish'; write 2026-11-23"),
        (["list", "--older-than", "x"], 2, "not a time"),
        (["list", "--older-than", "999999999d"], 2, "before the beginning of time"),
        (["list", "--since", "0001-01-01T00:00:00+14:00"], 2, "not a time that there is"),
        (["list", "--state", "open"], 2, "Invalid value for '--state'"),
        (["show", "abc"], 2, "Invalid value for 'ID'"),
        (["show", str(2**70)], 1, "there is no missed call"),
        (["nonsense"], 2, "No such command 'nonsense'"),
    ],
)
def test_a_mistake_is_one_line_and_its_own_exit_status(shell, words, status, said):
    ended, _, err = shell(*words)
    assert ended == status
    assert said in err
    assert "Traceback" not in err


def test_the_demo_says_at_once_why_it_cannot_start(tmp_path, capsys):
    (tmp_path / "text.db").write_text("a letter, not a database\n" * 100)
    with gevent.Timeout(10):
        assert cli.main(["demo", "--database", f"sqlite://{tmp_path}/text.db"]) == 5
    assert "text.db" in capsys.readouterr().err


def test_show_in_csv_is_one_row(shell, house):
    house.missed()
    status, out, _ = shell("show", 1, "--format", "csv")
    assert status == 0
    assert len(list(csv.reader(io.StringIO(out)))) == 2


def test_filters_that_match_nothing_are_no_error(shell):
    assert shell("list", "--number", "nobody")[:2] == (0, "")
    assert shell("replay", "--number", "nobody")[:2] == (0, "replayed: 0\n")
    status, out, _ = shell("purge", "--number", "nobody", "--yes")
    assert (status, out.splitlines()[-1]) == (0, "purged: 0")


def test_migrate_may_be_run_twice_and_an_unmigrated_database_is_named(shell, tmp_path):
    shell.path.write_text(
        f'database.url = "sqlite://{tmp_path}/new.db"\nfreeswitch = [{{ password = "x" }}]\n'
    )
    status, _, err = shell("list")
    assert status == 5
    assert "freeswitch-callback migrate" in err
    assert "schema" in shell("migrate")[1]
    assert "nothing to do" in shell("migrate")[1]
    assert shell("list")[:2] == (0, "")


def test_a_database_that_is_not_ours_is_left_alone(shell, tmp_path):
    foreign, text = tmp_path / "foreign.db", tmp_path / "text.db"
    with closing(sqlite3.connect(foreign)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.commit()
    text.write_text("this is a letter, not a database\n" * 100)
    for path in (foreign, text):
        before = path.read_bytes()
        shell.path.write_text(f'database.url = "sqlite://{path}"\nfreeswitch = [{{ password = "x" }}]\n')
        for command in ("list", "migrate"):
            status, _, err = shell(command)
            assert status == 5
            assert str(path) in err
        assert path.read_bytes() == before


def test_a_database_that_is_away_is_status_5_and_says_where_it_looked(shell):
    shell.path.write_text(
        'database.url = "postgresql://nobody:secret@127.0.0.1:1/none"\nfreeswitch = [{ password = "x" }]\n'
    )
    status, _, err = shell("list")
    assert status == 5
    assert "127.0.0.1:1" in err
    assert "secret" not in err


def commands(group=cli.cli, before=""):
    """All commands by name, those of groups too: `dnc add`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")


def test_every_command_has_help_that_teaches_with_an_example():
    example = re.compile(r"freeswitch-callback (--config \S+ )?(.*)")
    for name, command in commands():
        examples = [found[2] for found in example.finditer(command.help or "")]
        assert any(shown.startswith(name) for shown in examples), name
        assert all(p.help for p in command.params if getattr(p, "is_flag", False)), name


def test_the_readme_names_every_command():
    with open("README.rst", encoding="utf-8") as readme:
        words = set(re.findall(r"[a-z-]+", readme.read()))
    assert [name for name in cli.COMMANDS if name not in words] == []


def test_the_documentation_has_a_section_for_every_command_and_names_its_options():
    with open("docs/commands.rst", encoding="utf-8") as documentation:
        text = documentation.read()
    for name, command in commands():
        if not isinstance(command, click.Group):
            assert re.search(rf"^{name}\b.*\n[-~]+\n", text, re.MULTILINE), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(f"``{option}" in text for option in parameter.opts), (name, parameter.opts)


def test_the_demo_ends_with_a_summary_whose_figures_agree_with_the_simulators(capsys):
    assert cli.main(["demo", "--seconds", "6", "--seed", "2"]) == 0
    out = capsys.readouterr().out
    figures = dict(line.split(": ", 1) for line in out.rpartition("\n\n")[2].split("\n") if ": " in line)
    missed, called_back = figures["missed"], figures["called back"]
    assert missed.split()[0] == missed.split("simulator: ")[1].split()[0]
    assert called_back.split()[0] == called_back.split("simulator: ")[1].split()[0]
    assert "median wait until called" in figures


def test_the_demo_shows_a_table_on_a_terminal_and_ends_at_ctrl_c():
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "freeswitch_callback", "demo", "--seconds", "60"]
    program = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    with gevent.Timeout(30):
        while b"what became of it" not in shown:
            shown += gevent.get_hub().threadpool.apply(os.read, (ours, 4096))
        os.write(ours, b"\x03")
        program.send_signal(2)
        assert program.wait() == 0
    shown += gevent.get_hub().threadpool.apply(os.read, (ours, 65536))
    assert b"Missed calls" in shown
    os.close(ours)


def test_simulate_and_run_in_two_terminals_record_and_recall(tmp_path, capsys):
    """The README's way: its configuration, two programs, and `list --format json`."""
    environ = os.environ | {"PYTHONUNBUFFERED": "1"}
    program = [sys.executable, "-m", "freeswitch_callback"]
    simulate = subprocess.Popen(
        [*program, "simulate", "--port", "0", "--callers", "500", "--agents", "120"],
        stdout=subprocess.PIPE,
        env=environ,
    )
    said = simulate.stdout.readline().decode()
    port = int(said.split(":")[1].split(",")[0])
    path = tmp_path / "callback.toml"
    path.write_text(
        f'database.url = "sqlite://{tmp_path}/callback.db"\n'
        f'freeswitch = [{{ host = "127.0.0.1", port = {port}, password = "ClueCon" }}]\n'
        'numbers = { default_region = "US", allow = ["US"] }\n'
        'recall.dial_string = "sofia/gateway/main/{number}"\n'
        'recall.caller_id_number = "+12025559999"\n'
        'recall.hours = "always"\n'
        'capture.min_wait = "0s"\n'
    )
    with (tmp_path / "run.log").open("wb") as log:
        run = subprocess.Popen([*program, "--config", str(path), "run"], stderr=log, env=environ)
    shell = Shell(path, capsys)
    try:
        with gevent.Timeout(50), closing(Ledger(f"sqlite://{tmp_path}/callback.db")) as ledger:
            ledger.migrate()
            while not ledger.summary().by_state.get("connected"):
                gevent.idle()
        rows = shell.json("list")
        assert any(row["recalldate"] and row["recalloperator"] for row in rows)
    finally:
        for process in (run, simulate):
            process.terminate()
            process.wait()
    assert (run.returncode, simulate.returncode) == (0, 0)
    assert "clients dialled: " in simulate.stdout.read().decode()
