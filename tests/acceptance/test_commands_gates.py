"""The command line about whom not to call, and why: dnc, why, breaker, postpone, export, report, check."""

from __future__ import annotations

import csv
import io
import os
import pty
import subprocess
import sys
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import gevent
import pytest

from freeswitch_callback.core.facts import Mode, Outcome, Reason, Settlement
from freeswitch_callback.core.gates import CapRules, GateRules, first_shut, verdicts
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.simulator import Declines
from tests import hostile
from tests.acceptance.conftest import CLIENT, SUPPORT

BERLIN = "+4930123456"
STOPPED = CapRules(breaker=1, per_number=0, per_prefix=0)


def dialled(house, mode=Mode.QUEUE):
    """A claim of the newest recall that waits, written as dialled."""
    [due, *_] = house.ledger.due(None, 1)
    claim = house.ledger.claim(
        due.id, engine="e1", lease=60.0, node="fs1", agent=None, mode=mode, call_uuid="c", job_uuid="j"
    )
    assert house.ledger.dialling(claim)
    return claim


def trip(house, number=CLIENT):
    """Two recalls of one prefix: the second is one too many for the breaker."""

    rules = replace(house.gates, caps=STOPPED)

    def judge(case, now):
        return first_shut(verdicts(case, rules, now))

    for phone in (number, number[:-1] + "9"):
        house.missed(phone=phone)
    for due in house.ledger.due(None, 2):
        house.ledger.claim(
            due.id, engine="e1", lease=60.0, node="fs1", agent=None, mode=Mode.QUEUE, call_uuid=str(due.id),
            job_uuid=str(due.id), judge=judge, caps=STOPPED,
        )  # fmt: skip
    [breaker] = house.ledger.breakers()
    return breaker.prefix


def readable(text):
    """What a terminal gets: no control characters, nothing that turns the writing direction."""
    return all(c == "\n" or (unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029") for c in text)


# --- dnc ---------------------------------------------------------------------------------------------------


def test_a_number_as_people_write_it_is_not_called_any_more(shell, house):
    house.missed()
    assert shell("dnc", "add", "(202) 555-0200", "--note", "asked for it")[:2] == (
        0, f"not called any more: {CLIENT}\n",
    )  # fmt: skip
    [entry] = shell.json("dnc", "list")
    assert (entry["number"], entry["note"], entry["until"]) == (CLIENT, "asked for it", None)
    assert entry["added_at"].endswith("Z")
    [row] = shell.json("list")
    assert row["gate"] == f"do not call: {CLIENT} is on the list (asked for it)"
    assert shell("dnc", "remove", "202-555-0200")[:2] == (0, f"no more on the list: {CLIENT}\n")
    assert shell.json("list")[0]["gate"] is None


def test_what_comes_in_from_a_number_on_the_list_is_blocked_at_once(shell, house):
    shell("dnc", "add", CLIENT)
    house.missed()
    [row] = shell.json("list")
    assert (row["closed_as"], row["gate"]) == ("blocked", f"do not call: {CLIENT} is on the list")
    shell("dnc", "remove", CLIENT)
    assert shell("replay", 1)[:2] == (0, "replayed: 1\n")


@pytest.mark.parametrize("words", [["+49 (30)*"], ["+4930", "--prefix"], ["+4930*", "--prefix"]])
def test_a_prefix_is_written_with_a_star(shell, words):
    assert shell("dnc", "add", *words)[:2] == (0, "not called any more: +4930*\n")
    assert [e["number"] for e in shell.json("dnc", "list", "--number", "+4930 123456")] == ["+4930*"]
    assert shell.json("dnc", "list", "--number", CLIENT) == []
    assert shell("dnc", "remove", "+4930*")[0] == 0


def test_an_entry_ends_when_it_was_told_to(shell):
    assert shell("dnc", "add", CLIENT, "--until", "2h")[0] == 0
    [entry] = shell.json("dnc", "list")
    ends = datetime.fromisoformat(entry["until"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < ends <= timedelta(hours=2)


def test_an_extension_of_the_house_can_be_on_the_list(shell):
    shell.path.write_text(
        shell.path.read_text().replace("numbers = {", "numbers = { extensions = ['10\\d\\d'],")
    )
    assert shell("dnc", "add", "1001")[:2] == (0, "not called any more: 1001\n")
    shell.path.write_text(shell.path.read_text().replace("extensions = ['10\\d\\d'],", ""))
    assert shell("dnc", "add", "1002")[0] == 2
    assert shell("dnc", "remove", "1001")[:2] == (0, "no more on the list: 1001\n")


def test_who_is_still_forbidden_by_a_prefix_is_said_so(shell):
    shell("dnc", "add", CLIENT)
    shell("dnc", "add", "+1202*")
    assert shell("dnc", "remove", CLIENT)[1].splitlines()[1] == "still not called: it begins like +1202*"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["add", "hello"], 2, "'hello' cannot be a client's (number: not a telephone number)"),
        (["add", "+1202555"], 2, "write it like +12025550100"),
        (["add", "030*"], 2, "'030*' is no prefix; write it like +12025550100, or a prefix with its country"),
        (["add", "+*"], 2, "is no prefix"),
        (["add", "*"], 2, "is no prefix"),
        (["add", CLIENT, "--until", "2001-01-01"], 2, "that is over already"),
        (["add", CLIENT, "--until", "-2h"], 2, "not a time to come"),
        (["add", CLIENT, "--until", "soon"], 2, "not a time"),
        (["add", CLIENT, "--until", "999999999d"], 2, "not a time to come"),
        (["remove", CLIENT], 1, "is not on the list"),
        (["remove", "x"], 2, "'x' cannot be a client's"),
        (["list", "--number", "x"], 2, "'x' cannot be a client's"),
        (["import", "/nowhere/list.csv"], 2, "cannot be read: No such file"),
        (["import", "/"], 2, "cannot be read: Is a directory"),
    ],
)
def test_a_mistake_with_the_list_says_what_to_do(shell, words, status, said):
    ended, _, err = shell("dnc", *words)
    assert ended == status
    assert said in err
    assert shell.json("dnc", "list") == []


FILES = {
    "no header": ("+12025550200\n030 123456\n", ["", ""]),
    "semicolons": ("+12025550200;a, b\n+4930123456;\n", ["a, b", ""]),
    "a header": ("Note,Number,colour\r\nNo!,+12025550200,red\r\n,+4930123456\r\n", ["No!", ""]),
    "a byte order mark": ("\ufeffnumber;note\n+12025550200;x\n+4930123456;y\n", ["x", "y"]),
    "quotes": ('"+12025550200","""no""\nshe said"\n\n+4930123456,\n', ['"no"\nshe said', ""]),
    "spaces": ("  +1 (202) 555-0200 , kept as it came \n+4930123456\n", [" kept as it came ", ""]),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_imported_as_people_have_it(shell, tmp_path, kind):
    text, notes = FILES[kind]
    path = tmp_path / "list.csv"
    path.write_bytes(text.replace("030 123456", BERLIN).encode())
    assert shell("dnc", "import", path, "--dry-run")[:2] == (0, "would add: 2\n")
    assert shell.json("dnc", "list") == []
    assert shell("dnc", "import", path)[:2] == (0, "added: 2\n")
    assert shell("dnc", "import", path)[:2] == (0, "added: 2\n")
    entries = shell.json("dnc", "list")
    assert [e["number"] for e in entries] == [CLIENT, BERLIN]
    assert [e["note"] for e in entries] == notes


@pytest.mark.parametrize(("encoding", "said"), [("latin-1", "read as latin-1"), ("utf-16", "")])
def test_a_file_of_another_encoding_is_read_and_told(shell, tmp_path, encoding, said):
    path = tmp_path / "list.csv"
    path.write_bytes(f"{CLIENT};möchte nicht\n".encode(encoding))
    status, _, err = shell("dnc", "import", path)
    assert status == 0
    assert said in err
    assert shell.json("dnc", "list")[0]["note"] == "möchte nicht"


def test_bad_lines_are_told_with_their_numbers_and_the_good_ones_imported(shell, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(
        "number,note,until\n"
        f"{CLIENT},good,2099-01-01\n"
        "nobody,,\n"
        f"{BERLIN},,2001-01-01\n"
        f"{BERLIN},called, and complained, twice\n"
        ",no number,\n"
        "+1202*,,\n"
    )
    status, out, err = shell("dnc", "import", path)
    assert (status, out) == (1, "added: 2, left out: 4\n")
    assert [line.split(":")[0] for line in err.splitlines()] == ["line 3", "line 4", "line 5", "line 6"]
    assert "quote a note with , or ; in it" in err
    assert [e["number"] for e in shell.json("dnc", "list")] == ["+1202*", CLIENT]


def test_of_many_bad_lines_the_first_are_told(shell, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("x\n" * 50 + f"{CLIENT}\n")
    status, out, err = shell("dnc", "import", path)
    assert (status, out) == (1, "added: 1, left out: 50\n")
    assert len(err.splitlines()) == 21
    assert err.splitlines()[-1] == "and 30 lines more"


def test_a_quote_that_is_never_closed_is_told_with_what_it_swallowed(shell, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f'{CLIENT},a\n{BERLIN},"b\n{BERLIN},c\n')
    status, out, err = shell("dnc", "import", path)
    assert (status, out) == (1, "added: 1, left out: 1\n")
    assert "line 2: not CSV, is a quote not closed?" in err
    assert "lines 2 to 3 are not read" in err


def test_what_is_exported_can_be_imported(shell, tmp_path):
    shell("dnc", "add", CLIENT, "--note", "no; never, ever", "--until", "2099-01-01")
    shell("dnc", "add", "+4930*", "--note", "Bob\nand Anna")
    before = shell.json("dnc", "list")
    path = tmp_path / "list.csv"
    path.write_text(shell("dnc", "list", "--format", "csv")[1], newline="")
    for number in (CLIENT, "+4930*"):
        shell("dnc", "remove", number)
    assert shell("dnc", "import", path)[:2] == (0, "added: 2\n")
    assert [{**e, "added_at": None} for e in shell.json("dnc", "list")] == [
        {**e, "added_at": None} for e in before
    ]


def test_the_standard_input_is_a_file_too(shell, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(f"{CLIENT}\n".encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert shell("dnc", "import", "-")[:2] == (0, "added: 1\n")


def test_a_long_list_is_imported_in_little_memory(shell, tmp_path):
    path = tmp_path / "list.csv"
    with path.open("w") as file:
        for i in range(20_000):
            file.write(f"+1202555{i % 10_000:04},{'n' * 100}\n")
    before = len(shell.json("dnc", "list"))
    assert shell("dnc", "import", path)[:2] == (0, "added: 20000\n")
    assert len(shell.json("dnc", "list")) - before == 10_000


# --- why, and the gate in a list ---------------------------------------------------------------------------


def gates(shell, missed_id=1):
    [told] = shell.json("why", missed_id)
    return told, {gate["gate"]: gate for gate in told["gates"]}


def test_why_says_what_each_gate_says(shell, house):
    house.missed()
    status, out, _ = shell("why", 1)
    assert status == 0
    first, *lines = out.splitlines()
    assert first.startswith("waiting since ")
    assert ", not tried yet; expires " in first
    assert [line[:15].rstrip() for line in lines[:9]] == [
        "number", "country", "do not call", "short rings", "queue", "breaker", "caps", "due", "calling hours",
    ]  # fmt: skip
    assert all(line[15:19] == "open" for line in lines[:9])
    assert [line.split()[:2] for line in lines[9:]] == [
        ["served", "open"],
        ["fairness", "open"],
        ["agent", "shut"],
    ]
    house.free()
    *_, agent, last = shell("why", 1)[1].splitlines()
    assert agent.split() == ["agent", "open", "free:", "1001@default"]
    assert last == "No gate is shut."
    told, by_name = gates(shell)
    assert (told["id"], told["state"], told["attempts"], told["replayed"]) == (1, "waiting", 0, False)
    assert by_name["number"] == {
        "gate": "number", "open": True, "text": CLIENT, "opens_at": None, "for_good": False,
    }  # fmt: skip


def test_why_sees_who_is_on_the_line(shell, house):
    house.missed()
    call = house.sim.call(CLIENT, to="3000")
    assert house.sim.wait_for(lambda: house.waits(call))
    _, by_name = gates(shell)
    assert by_name["served"]["text"] == "on a call or in a queue right now"
    call.hang_up()


def test_why_with_a_freeswitch_away_says_what_it_cannot_tell(shell, house):
    house.missed()
    house.sim.stop()
    status, out, err = shell("why", 1)
    assert status == 0
    assert "fs1: " in err
    assert [line.split()[:2] for line in out.splitlines()[-3:]] == [
        ["served", "?"], ["fairness", "?"], ["agent", "?"],
    ]  # fmt: skip
    assert out.count("not asked: fs1 is out of reach") == 3
    assert gates(shell)[1]["agent"]["open"] is None


def test_why_knows_the_agents_who_rest_though_another_process_called_them(shell, house):
    house.sim.set_behaviour("1001@default", Declines(after=0.01))
    house.missed()
    house.free()
    engine = house.engine()
    house.until(lambda: any(attempt["outcome"] for attempt in house.attempts()))
    house.stop(engine)
    _, by_name = gates(shell)
    assert by_name["agent"]["open"] is False
    assert by_name["agent"]["text"] == "none of the 1 agents on duty is free"
    assert datetime.fromisoformat(by_name["agent"]["opens_at"]) > datetime.now(UTC)


def test_why_says_when_a_gate_opens(shell, house):
    house.missed()
    due = datetime.now(UTC) + timedelta(hours=2)
    assert shell("postpone", 1, "--for", "2h")[0] == 0
    _, by_name = gates(shell)
    assert by_name["due"]["open"] is False
    assert abs(datetime.fromisoformat(by_name["due"]["opens_at"]) - due) < timedelta(seconds=30)
    assert "shut  from " in shell("why", 1)[1]
    [row] = shell.json("list")
    assert row["gate"].startswith("due: from ")


def test_calling_hours_are_those_of_the_clients_own_country(shell, house):
    house.gates = GateRules(NumberRules(allow=frozenset({"DE"})))
    house.missed(phone=BERLIN)
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).strftime("%a").lower()
    hours = f'{{ days = "{tomorrow}", from = "09:00", to = "10:00" }}'
    shell.path.write_text(shell.path.read_text().replace('"always"', hours))
    _, by_name = gates(shell)
    assert by_name["calling hours"]["open"] is False
    assert "09:00 Europe/Berlin" in by_name["calling hours"]["text"]
    [row] = shell.json("list")
    assert row["gate"].startswith("calling hours: opens ")


def test_why_of_a_closed_recall_says_what_replay_would_meet(shell, house):
    house.missed(phone="anonymous")
    house.missed()
    shell("close", 2)
    assert shell("why", 2)[1].startswith("closed as cancelled by ")
    told, by_name = gates(shell, 2)
    assert (told["closed_as"], told["replayed"]) == ("cancelled", True)
    assert [name for name, gate in by_name.items() if not gate["open"]] == ["agent"]
    out = shell("why", 1)[1]
    assert "closed as blocked" in out
    assert "If it was replayed now, the gates would say:" in out
    _, by_name = gates(shell, 1)
    assert (by_name["number"]["open"], by_name["number"]["text"]) == (False, "withheld")


def test_why_of_a_call_that_is_up_or_unknown_says_so(shell, house):
    house.missed()
    claim = dialled(house)
    assert shell("why", 1)[1].splitlines()[0] == "being called now by e1"
    assert gates(shell)[1]["due"]["text"] == "the recall is dialling"
    assert shell.json("list")[0]["gate"] is None
    house.ledger.connected(claim, datetime.now(UTC), "1001@default")
    assert shell("why", 1)[1].splitlines()[0] == "talking with 1001@default now"


def test_an_unknown_outcome_is_told_with_what_settles_it(shell, house):
    house.missed()
    house.ledger.settle(dialled(house), Settlement(Outcome.UNKNOWN), datetime.now(UTC))
    assert "unknown; settle it with `replay` or `close`" in shell("why", 1)[1]
    status, out, _ = shell("check")
    assert status == 0
    assert "1 recall whose outcome is unknown" in out


def test_there_is_no_why_of_what_is_not_there(shell):
    for missed_id in (99, 2**70):
        status, _, err = shell("why", missed_id)
        assert status == 1
        assert "there is no missed call" in err


def test_a_table_tells_what_blocked_a_call_once(shell, house):
    house.missed(phone="anonymous")
    assert shell("list")[1].count("withheld") == 1
    assert shell.json("list")[0]["note"] == shell.json("list")[0]["gate"] == "number: withheld"


# --- breakers ----------------------------------------------------------------------------------------------


def test_a_breaker_is_listed_and_reset_by_hand(shell, house):
    prefix = trip(house)
    [row] = shell.json("breaker", "list")
    assert (row["prefix"], row["recalls"]) == (prefix, 1)
    status, out, _ = shell("check")
    assert status == 1
    assert f"bad      breaker: all recalls to {prefix}… are stopped: 1" in out
    assert f"breaker reset {prefix}" in out
    waiting = next(row for row in shell.json("list") if row["state"] == "waiting")
    assert waiting["gate"].startswith("breaker: all recalls to")
    assert shell("breaker", "reset", "--all", "--dry-run")[:2] == (0, "would reset: 1\n")
    assert shell("breaker", "reset", prefix)[:2] == (0, "reset: 1\n")
    assert shell.json("breaker", "list") == []
    assert next(row for row in shell.json("list") if row["state"] == "waiting")["gate"] is None


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "reset what? Name a PREFIX as `breaker list` shows it, or --all"),
        (["+1", "--all"], 2, "reset what?"),
        (["+1"], 1, "recalls to '+1' are not stopped"),
    ],
)
def test_a_breaker_that_is_not_there_is_not_reset(shell, words, status, said):
    ended, _, err = shell("breaker", "reset", *words)
    assert ended == status
    assert said in err


# --- postpone ----------------------------------------------------------------------------------------------


def test_postponed_calls_are_due_later(shell, house):
    house.missed()
    house.missed(phone="+12025550301")
    assert shell("postpone", "--number", CLIENT, "--until", "2099-01-01T12:00Z", "--dry-run")[:2] == (
        0, "would postpone the recalls of missed calls: 1\n",
    )  # fmt: skip
    status, out, _ = shell("postpone", "--number", CLIENT, "--until", "2099-01-01T12:00Z")
    assert status == 0
    assert out.endswith(": 1\n")
    assert house.row(number=CLIENT)["due_at"] == datetime(2099, 1, 1, 12, tzinfo=UTC)
    assert shell("postpone", "--all", "--for", "2h")[1].endswith(": 2\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1"], "until when? Name either --until 2026-11-23T15:00 or --for 2h"),
        (["1", "--for", "2h", "--until", "2099-01-01"], "until when?"),
        (["1", "--until", "2001-01-01"], "that is over already"),
        (["1", "--for", "-2h"], "not a time to come"),
        (["1", "--for", "0s"], "not a time to come"),
        (["--for", "2h"], "postpone what?"),
        (["1", "--for", "tomorrow"], "not a time"),
    ],
)
def test_postpone_says_what_it_does_not_understand(shell, house, words, said):
    house.missed()
    status, _, err = shell("postpone", *words)
    assert status == 2
    assert said in err
    assert shell("postpone", 99, "--for", "2h")[0] == 1


def test_an_empty_filter_is_not_no_filter(shell, house):
    house.missed(phone="anonymous", calldate=datetime.now(UTC) - timedelta(days=2))
    for word in ("--since", "--until", "--older-than"):
        assert shell("purge", word, "", "--queue", SUPPORT, "--yes")[0] == 2
    assert shell("purge", "--queue", "", "--yes")[:2] == (0, "purged: 0\n")
    assert len(house.rows()) == 1


# --- export ------------------------------------------------------------------------------------------------


def read(path, encoding="utf-8"):
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def test_an_export_has_all_rows_and_no_formula(shell, house, tmp_path):
    for i in range(60):
        house.missed(phone=f"+1202555{i:04}", caller_name="=1+1" if i else "＝1+1")
    path = tmp_path / "all.csv"
    assert shell("export", "--output", path)[:2] == (0, "exported: 60\n")
    rows = read(path)
    assert [len(rows), rows[0]["phone"], rows[0]["caller_name"]] == [60, "+12025550059", "'=1+1"]
    assert rows[-1]["caller_name"] == "'＝1+1"
    assert rows[0]["calldate"].endswith("Z")
    assert rows[0]["gate"] == ""
    assert len(list(csv.reader(io.StringIO(shell("export", "--limit", 3)[1])))) == 4
    assert os.listdir(tmp_path).count("all.csv") == 1
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_an_export_for_excel_begins_with_a_mark(shell, house, tmp_path):
    house.missed(caller_name="Zoë")
    path = tmp_path / "all.csv"
    shell("export", "--bom", "--output", path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,")
    assert read(path, "utf-8-sig")[0]["caller_name"] == "Zoë"


def test_an_export_replaces_nothing_unless_told(shell, house, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("mine")
    status, _, err = shell("export", "--output", path)
    assert status == 2
    assert "is there already; name another file, or replace it with --force" in err
    assert path.read_text() == "mine"
    assert shell("export", "--output", path, "--force")[:2] == (0, "exported: 0\n")
    assert read(path) == []
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert shell("export", "--output", pipe, "--force")[0] == 2
    assert pipe.is_fifo()
    assert shell("export", "--output", tmp_path / "no" / "folder.csv")[0] == 1


def test_an_export_that_fails_leaves_no_half_file(shell, house, tmp_path, monkeypatch):
    house.missed()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("freeswitch_callback.operations.spreadsheet._cell", full)
    path = tmp_path / "out" / "all.csv"
    path.parent.mkdir()
    status, _, err = shell("export", "--output", path)
    assert status == 1
    assert "No space left on device" in err
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    "cell", ["=1", "+1a", "-1a", "@x", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "＋a", "－a", "＠a", "+", "-"]
)
def test_what_a_spreadsheet_would_calculate_is_text(shell, house, cell):
    house.missed(caller_name=cell)
    [row] = csv.DictReader(io.StringIO(shell("export")[1], newline=""))
    assert row["caller_name"] == "'" + cell


def test_progress_is_shown_on_a_terminal_and_nowhere_else(shell, house, tmp_path):
    house.missed()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "freeswitch_callback", "--config", str(shell.path), "export"]
    program = subprocess.Popen(
        [*command, "--output", str(tmp_path / "all.csv")],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    with gevent.Timeout(30):
        assert program.stdout.read() == b"exported: 1\n"
        assert program.wait() == 0
        while b"exporting" not in shown:
            shown += gevent.get_hub().threadpool.apply(os.read, (ours, 4096))
    os.close(ours)
    assert shell("export", "--output", tmp_path / "other.csv")[2] == ""


# --- report ------------------------------------------------------------------------------------------------


def test_a_report_tells_what_became_of_the_missed_calls(shell, house):
    house.missed(phone="anonymous", reason=Reason.BUSY)
    house.missed()
    claim = dialled(house)
    talk = datetime.now(UTC) + timedelta(seconds=30 + 192)
    house.ledger.connected(claim, talk, "1001@default")
    house.ledger.settle(claim, Settlement(Outcome.CONNECTED, closed_as="recalled"), talk)
    house.missed(phone="+12025550301")
    house.ledger.settle(dialled(house), Settlement(Outcome.CLIENT_HUNG_UP, retry_in=300.0), talk)
    house.missed(phone="+12025550302")
    house.missed(phone="+12025550302")
    house.missed(phone="+12025550303", queue="sales@default")
    shell("dnc", "add", "+12025550303", "--until", "2h")
    [told] = shell.json("report")
    assert {key: told[key] for key in ("missed", "recalled", "open", "closed", "answered", "hung_up")} == {
        "missed": 6, "recalled": 1, "open": 4, "closed": {"blocked": 1}, "answered": 2, "hung_up": 1,
    }  # fmt: skip
    assert told["open_by_gate"] == {"do not call": 1, "due": 1, "none (waits for an agent)": 1}
    assert 190 < told["median_time"] < 194
    status, out, _ = shell("report")
    assert status == 0
    assert "recovery rate: 20.0 %, 1 of 5 that could be called" in out
    assert "time to recall: median 3 min 1" in out
    assert "hung up before an agent was there: 50.0 %, 1 of 2 clients who answered, in 30 days" in out
    assert "none (waits for an agent)" in out
    assert datetime.now().strftime("  %H:00") in out
    [sales] = shell.json("report", "--queue", "sales@default")
    assert (sales["missed"], sales["open_by_gate"]) == (1, {"do not call": 1})
    rows = list(csv.DictReader(io.StringIO(shell("report", "--format", "csv")[1])))
    assert {"section": "closed", "name": "blocked", "value": "1"} in rows


def test_a_recall_of_several_calls_counts_once_in_a_report_however_long_the_list(shell, house, monkeypatch):
    monkeypatch.setattr("freeswitch_callback.operations.verdicts._PAGE", 1)
    for _ in range(3):
        house.missed()
    assert shell.json("report")[0]["open_by_gate"] == {"none (waits for an agent)": 1}


def test_a_report_of_nothing_is_no_error(shell):
    status, out, _ = shell("report", "--since", "2020-01-01", "--until", "2020-02-01")
    assert status == 0
    assert "recovery rate: -" in out
    assert shell("report", "--since", "2020-01-01", "--until", "2019-01-01")[0] == 2
    assert shell("report", "--since", "")[0] == 2


# --- check -------------------------------------------------------------------------------------------------


def test_check_names_a_country_that_can_hardly_be_called(shell):
    text = shell.path.read_text().replace('"US", "DE"', '"US", "DE", "RU"')
    text = text.replace('"always"', '{ days = "mon-fri", from = "09:00", to = "20:00" }')
    shell.path.write_text(text)
    status, out, _ = shell("check")
    assert status == 0
    [warning] = [line for line in out.splitlines() if "warning  calling hours" in line]
    assert "recall: numbers of RU can be called for" in warning
    assert 'numbers.zones = { RU = "Europe/Moscow" }' in warning
    shell.path.write_text(text.replace("numbers = {", 'numbers = { zones = { RU = "Europe/Moscow" },'))
    assert "calling hours" not in shell("check")[1]


# --- what strangers send, at every door --------------------------------------------------------------------


def runs(shell, *words):
    """A command that must neither crash nor print what moves a cursor."""
    status, out, err = shell(*words)
    assert status in (0, 1, 2), (words, err)
    assert "Traceback" not in err
    assert readable(out), words
    assert readable(err), words
    return status, out, err


def test_what_why_and_errors_quote_moves_no_cursor(shell, house):
    house.missed()
    shell("dnc", "add", CLIENT, "--note", "\x1b[2J\u202e\u2028")
    assert runs(shell, "why", 1)[0] == 0
    shell("close", 1, "--note", "\x1b]0;x\x07")
    assert runs(shell, "why", 1)[0] == 0
    shell.path = "/nowhere/\x07\u202e.toml"
    status, _, err = shell("list")
    assert (status, readable(err)) == (3, True)


def test_hostile_numbers_at_every_door_are_refused_and_nothing_crashes(shell, house):
    for value in hostile.EVERYTHING:
        runs(shell, "dnc", "remove", "--", value)
        runs(shell, "dnc", "list", f"--number={value}")
        runs(shell, "breaker", "reset", "--", value)
        runs(shell, "list", f"--number={value}")
        runs(shell, "list", f"--queue={value}")
        runs(shell, "list", f"--since={value}")
        runs(shell, "postpone", f"--number={value}", f"--for={value}")
    for value in hostile.NUMBERS:
        status, out, _ = runs(shell, "dnc", "add", "--", value)
        assert status == 2 or "not called any more: +" in out
    for entry in shell.json("dnc", "list"):
        assert entry["number"].removesuffix("*")[1:].isdecimal()
        assert entry["number"].isascii()


def test_a_hostile_number_is_added_as_blocked_or_not_at_all_and_why_tells(shell, house):
    for value in hostile.EVERYTHING:
        before = len(house.rows())
        status, out, _ = runs(shell, "add", f"--queue={SUPPORT}", "--", value)
        after = house.rows()
        assert (status == 0) == (len(after) == before + 1)
        if value in hostile.NUMBERS and status == 0:
            assert "but it will not be called" in out
        if status == 0:
            assert after[0]["phone"] == value
            runs(shell, "why", after[0]["id"])


def test_hostile_names_and_notes_are_stored_as_they_came_and_shown_without_harm(shell, house):
    notes = {f"+1202555{i:04}": text for i, text in enumerate(hostile.TEXTS)}
    for number, text in notes.items():
        assert runs(shell, "dnc", "add", number, f"--note={text}")[0] == 0
        missed_id = house.missed(phone=text, caller_name=text)
        assert runs(shell, "why", missed_id)[0] == 0
    assert {entry.number: entry.note for entry in house.ledger.forbidden()} == notes
    assert {entry["number"]: entry["note"] for entry in shell.json("dnc", "list")} == notes
    assert [row["phone"] for row in reversed(house.rows())] == hostile.TEXTS
    assert [row["phone"] for row in reversed(shell.json("list", "--limit", 1000))] == hostile.TEXTS
    for words in (["dnc", "list"], ["list", "--limit", 1000], ["show", missed_id]):
        assert runs(shell, *words)[0] == 0
    exported = list(csv.DictReader(io.StringIO(shell("export")[1], newline="")))
    assert [row["phone"].removeprefix("'") for row in reversed(exported)] == [
        text.removeprefix("'") for text in hostile.TEXTS
    ]


def test_a_file_of_hostile_values_is_told_line_by_line(shell, tmp_path):
    path = tmp_path / "list.csv"
    for value in hostile.EVERYTHING:
        raw = value.encode("utf-8", "surrogateescape" if value == hostile.NOT_UTF8 else "replace")
        path.write_bytes(raw + b"\n" + CLIENT.encode() + b"," + raw.replace(b'"', b'""') + b"\n")
        runs(shell, "dnc", "import", path)
        runs(shell, "dnc", "list")
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        csv.writer(file).writerows([value] for value in hostile.NUMBERS)
    status, _, err = runs(shell, "dnc", "import", path)
    assert status == 1
    assert "line 2: " in err
