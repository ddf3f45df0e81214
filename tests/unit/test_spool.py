"""The spool: what was acknowledged is read, in order and as it was, whatever the disk and the process do."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from freeswitch_callback.core.facts import Missed, Reached, Reason, Served
from freeswitch_callback.ledger import spool as module
from freeswitch_callback.ledger.spool import HEAD, Spool, SpoolError, SpoolFull, SpoolInUse, SpoolTooNew
from tests import hostile

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def missed(number: int = 1, **said):
    given_ = {
        "node": "fs1", "call_uuid": f"c{number}", "phone": "+12025550100", "calldate": NOON, "timewait": 30,
        "reason": Reason.ABANDONED, "queue": "support@default", "extra": {"language": "en"},
    }  # fmt: skip
    return Missed(**(given_ | said))


THREE = [
    missed(1, caller_name="Bob\nMüller"),
    Served("fs1", "c1", "+12025550100", "support@default", "1001@default", NOON),
    Reached("fs1", "c2", "12025550100", None, "", NOON, 12.5),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool" / "fs1.spool"


def opened(path, **limits):
    return closing(Spool(path, **limits))


def left(path):
    """All that is read from it, as a next process would."""
    with opened(path) as spool:
        facts = spool.oldest(10_000)
        assert len(facts) == spool.length()
        return facts


def filled(path, facts=THREE):
    with opened(path) as spool:
        spool.append(*facts)
    return path


# --- what comes out is what went in -----------------------------------------------------------------------

# Surrogates too, alone and in pairs: hypothesis leaves them out unless asked.
texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=50)
times = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))]))
wholes = st.integers(-(2**70), 2**70)
maybe = st.none() | texts
facts_ = st.one_of(
    st.builds(
        Missed, node=texts, call_uuid=texts, phone=texts, calldate=times, timewait=wholes,
        reason=st.sampled_from(Reason), calledid=texts, operator=maybe, member_uuid=maybe, queue=maybe,
        caller_name=texts, hangup_cause=texts, extra=st.dictionaries(texts, texts, max_size=3),
        settled=st.booleans(),
    ),
    st.builds(Served, texts, texts, texts, maybe, maybe, times),
    st.builds(Reached, texts, texts, texts, maybe, texts, times, st.floats(0, 1e9)),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(facts_, max_size=5))
def test_a_line_is_one_line_and_reads_back_as_the_very_fact(facts):
    for fact in facts:
        line = module.encode(fact)
        assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
        assert module.decode(line) == fact


@pytest.mark.parametrize("text", ["\ud83d\ude00", "\udcff", "a\x00b", "x" * 70_000, "\r\n\n", "\u2028\x85"])
def test_what_no_database_can_hold_a_spool_does(path, text):
    fact = missed(phone=text, caller_name=text, extra={text: text})
    assert left(filled(path, [fact])) == [fact]


def test_every_hostile_value_comes_back_as_it_was(path):
    facts = [missed(n, phone=v, caller_name=v) for n, v in enumerate(hostile.EVERYTHING)]
    assert left(filled(path, facts)) == facts


def test_every_field_of_every_fact_is_kept():
    """A field that is added and not kept would be lost in silence."""
    for fact in THREE:
        text = module.encode(fact).decode()
        assert all(f'"{field.name}":' in text for field in fields(fact))


# --- order, draining, room ------------------------------------------------------------------------------


def test_facts_come_out_in_the_order_in_which_they_went_in(path):
    facts = [missed(n) for n in range(250)]
    out = []
    with opened(path) as spool:
        for fact in facts:
            spool.append(fact)
        while batch := spool.oldest(100):
            out += batch
            spool.drained(len(batch))
        assert spool.length() == 0
    assert out == facts


def test_what_was_not_drained_is_given_again_also_to_the_next_process(path):
    facts = [missed(n) for n in range(10)]
    with opened(filled(path, facts)) as spool:
        assert spool.oldest(4) == spool.oldest(4) == facts[:4]
        spool.drained(3)
        assert spool.oldest(4) == facts[3:7]
        assert spool.length() == 7
    assert left(path) == facts[3:]


def test_an_empty_spool_takes_no_room_and_goes_on_as_new(path):
    with opened(filled(path)) as spool:
        spool.drained(len(spool.oldest(10)))
        assert (path.stat().st_size, spool.size, spool.oldest(10)) == (HEAD, 0, [])
        spool.append(THREE[0])
    assert left(path) == THREE[:1]


def test_what_comes_in_while_it_is_drained_goes_behind(path):
    with opened(filled(path)) as spool:
        batch = spool.oldest(10)
        spool.append(missed(9))
        spool.drained(len(batch))
        assert spool.oldest(10) == [missed(9)]


def test_a_full_spool_says_so_loses_nothing_and_has_room_again_once_drained(path):
    line = len(module.encode(missed(1)))
    with opened(path, limit_bytes=2 * line) as spool:
        spool.append(missed(1), missed(2))
        with pytest.raises(SpoolFull, match="is full"):
            spool.append(missed(3))
        assert spool.oldest(10) == [missed(1), missed(2)]
        spool.drained(2)
        spool.append(missed(3))
    assert left(path) == [missed(3)]


def test_of_several_facts_that_do_not_fit_together_none_is_taken(path):
    with opened(path, limit_bytes=2 * len(module.encode(missed(1)))) as spool:
        with pytest.raises(SpoolFull):
            spool.append(*[missed(n) for n in range(3)])
        assert spool.length() == 0


def test_the_other_greenlets_go_on_while_it_waits_for_its_disk(path, monkeypatch):
    went_on = gevent.event.Event()
    waiting = gevent.hub.get_hub().loop.async_()
    waiting.start(went_on.set)
    done = []

    class Slow(Disk):
        def fsync(self, fd):
            if done:
                waiting.send()  # in the thread: the hub has to run for anybody to hear it
                assert heard.acquire(timeout=5)
            os.fsync(fd)

    heard = gevent.monkey.get_original("_thread", "allocate_lock")()  # one that stops the whole thread
    heard.acquire()
    with opened(path) as spool:
        monkeypatch.setattr(module, "os", Slow())
        done.append(True)
        appending = gevent.spawn(spool.append, missed(1))
        assert went_on.wait(10)
        heard.release()
        appending.get()
    waiting.close()


# --- who may read and write it -----------------------------------------------------------------------------


def test_two_processes_never_share_one(path):
    program = (
        "import sys; from freeswitch_callback.ledger.spool import Spool; spool = Spool(sys.argv[1]);"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(SpoolInUse, match=f"in use by another process \\(`fuser {path}`"):
            Spool(path)
        other.kill()
    with opened(path) as spool:  # who is killed holds nothing any more
        assert spool.length() == 0


def test_nobody_else_may_read_it(path):
    path.parent.parent.chmod(0o755)
    filled(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("content", [b"x", b"[database]\n" * 20, b"\x00" * 100])
def test_a_file_of_somebody_else_is_refused_and_left_as_it_is(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(SpoolError, match="is not a spool"):
        Spool(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"file/fs1.spool cannot be opened: .*file'$"):
        Spool(tmp_path / "file" / "fs1.spool")


# --- versions ----------------------------------------------------------------------------------------------


def line_of(text: str) -> bytes:
    data = text.encode()
    return data + b" " + module._crc(data) + b"\n"


OLD = (
    '{"v":1,"fact":"missed","node":"fs1","call_uuid":"c1","phone":"+12025550100",'
    '"calldate":"2026-03-02T12:00:00+00:00","timewait":30,"reason":"abandoned","settled":true,"once":"x"}'
)


def test_what_an_older_release_wrote_is_read_with_todays_defaults(path):
    with filled(path, []).open("ab") as file:
        file.write(line_of(OLD))
    assert left(path) == [missed(1, queue=None, extra={})]


def test_what_a_newer_release_wrote_is_refused_whole_and_left_as_it_is(path):
    with filled(path).open("ab") as file:
        file.write(line_of('{"v":2,"fact":"missed","caller":{"number":"+12025550100"}}'))
    content = path.read_bytes()
    with pytest.raises(SpoolTooNew, match=r"newer release \(version 2, this one reads up to 1\)"):
        Spool(path)
    assert path.read_bytes() == content


# --- crashes and damage ------------------------------------------------------------------------------------


def test_cut_off_at_every_byte_of_the_last_append_all_else_is_there_and_nothing_more(path, tmp_path):
    filled(path)
    before = path.stat().st_size
    last = missed(4, caller_name="Ö\ud800\n")
    whole = filled(path, [last]).read_bytes()
    cut = tmp_path / "cut"
    for length in range(before, len(whole)):
        cut.write_bytes(whole[:length])
        with capture_logs() as said:
            assert left(cut) == THREE
        dropped = [(entry["event"], entry["log_level"], entry["bytes"]) for entry in said]
        half = length - before
        assert dropped == ([("spool_half_line_dropped", "warning", half)] if half else [])
        assert left(filled(cut, [last])) == [*THREE, last]
    cut.write_bytes(whole)
    assert left(cut) == [*THREE, last]


def test_cut_off_at_every_byte_of_its_making_it_is_made_anew(path):
    whole = filled(path, []).read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert left(filled(path)) == THREE
        path.unlink()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_line_is_kept_aside_and_the_others_are_read(path, which):
    filled(path)
    lines = path.read_bytes()[HEAD:].splitlines(keepends=True)
    at = HEAD + sum(map(len, lines[:which]))
    with path.open("r+b") as file:
        file.seek(at + 20)
        file.write(b"\x00")
    with opened(path) as spool, capture_logs() as said:
        out = []
        while batch := spool.oldest(10):
            out += batch
            spool.drained(len(batch))
        assert (spool.length(), path.stat().st_size) == (0, HEAD)
    assert out == [fact for n, fact in enumerate(THREE) if n != which]
    [alarm] = said
    assert (alarm["event"], alarm["log_level"], alarm["at"]) == ("spool_damaged", "error", at)
    kept = path.with_name("fs1.spool.damaged")
    assert alarm["kept_in"] == str(kept)
    assert kept.read_bytes() == lines[which][:20] + b"\x00" + lines[which][21:]


def test_every_byte_of_a_line_counts_for_its_check():
    line = module.encode(THREE[0])
    for position in range(len(line) - 1):
        for other in (0, line[position] ^ 1, line[position] ^ 0x20):
            if other != line[position]:
                with pytest.raises(ValueError, match="check"):
                    module.decode(line[:position] + bytes([other]) + line[position + 1 :])


def test_what_cannot_be_drained_is_kept_aside(path):
    with opened(filled(path)) as spool:
        assert spool.oldest(10) == THREE
        spool.drained(1)
        spool.put_aside()
        assert spool.oldest(10) == THREE[2:]
    assert path.with_name("fs1.spool.damaged").read_bytes() == module.encode(THREE[1])


def test_a_damaged_head_means_draining_again_not_losing(path):
    with opened(filled(path)) as spool:
        spool.oldest(10)
        spool.drained(1)
    with path.open("r+b") as file:
        file.seek(40)
        file.write(b"7")
    with capture_logs() as said:
        assert left(path) == THREE
    assert [entry["event"] for entry in said] == ["spool_head_damaged"]


# --- a disk that fails -------------------------------------------------------------------------------------


class Disk:
    """`os` for the spool. The n-th call that changes the disk fails, as does every later one if it `stays`
    so; half of what it writes is written. `durable` is what a power cut leaves at the least."""

    def __init__(self, path=None, fails=0, error=errno.ENOSPC, stays=False, at_once=None):
        self.path, self.fails, self.error, self.stays = path, fails, error, stays
        self.at_once = at_once
        self.calls = self.folders = 0
        self.durable = b""

    def __getattr__(self, name):
        return getattr(os, name)

    def _fails(self):
        self.calls += 1
        return self.fails and (self.calls == self.fails or (self.stays and self.calls > self.fails))

    def _failure(self):
        return OSError(self.error, os.strerror(self.error))

    def pwrite(self, fd, data, at):
        if self._fails():
            if at >= HEAD:  # the head is in one sector: written or not
                os.pwrite(fd, data[: len(data) // 2], at)
            raise self._failure()
        return os.pwrite(fd, data[: self.at_once] if at >= HEAD else data, at)

    def fsync(self, fd):
        if self._fails():
            raise self._failure()
        os.fsync(fd)
        self.folders += stat.S_ISDIR(os.fstat(fd).st_mode)
        if self.path is not None and self.path.exists():
            self.durable = self.path.read_bytes()

    def ftruncate(self, fd, length):
        if self._fails():
            raise self._failure()
        os.ftruncate(fd, length)


def a_day(path):
    """Appends and drains; what was acknowledged, what was drained, and of how much of it that is certain."""
    acknowledged, drained, surely = [], [], 0
    with opened(path) as spool:
        for number in range(20):
            fact = missed(number, caller_name="x" * (1 + 37 * (number % 3)))  # shorter after longer
            with suppress(SpoolError):
                spool.append(fact)
                acknowledged.append(fact)
            if number in (4, 6, 14, 15):  # some; all; and of more than that
                with suppress(SpoolError):
                    batch = spool.oldest(10 if number == 6 else 3)
                    drained += batch
                    spool.drained(len(batch))
                    surely = len(drained)
    return acknowledged, drained, drained[:surely]


def faults():
    return [
        pytest.param(error, stays, id=f"{errno.errorcode[error]}{'_for_good' if stays else '_once'}")
        for error in (errno.ENOSPC, errno.EIO)
        for stays in (False, True)
    ]


@pytest.mark.parametrize(("error", "stays"), faults())
def test_whichever_write_fails_nothing_that_was_acknowledged_is_lost(path, monkeypatch, error, stays):
    counted = Disk()
    monkeypatch.setattr(module, "os", counted)
    filled(path, [])
    made = counted.calls
    a_day(path)
    assert counted.calls - made > 40
    for fails in range(made + 1, counted.calls + 1):
        shutil.rmtree(path.parent)
        disk = Disk(path, fails, error, stays)
        monkeypatch.setattr(module, "os", disk)
        filled(path, [])
        acknowledged, drained, surely = a_day(path)
        monkeypatch.setattr(module, "os", os)
        # The process died; the machine died; it did, and no more than the head had come to its disk.
        head = path.read_bytes()[:HEAD]
        for image in (path.read_bytes(), disk.durable, head + disk.durable[HEAD:]):
            path.write_bytes(image)
            there = left(path)
            lost = [fact for fact in acknowledged if fact not in drained and fact not in there]
            assert lost == [], f"call {fails}"
            assert [fact for fact in there if fact in surely] == [], f"call {fails}"
            order = [int(fact.call_uuid[1:]) for fact in there]
            assert order == sorted(order), f"call {fails}"


def test_a_spool_works_again_when_its_disk_does(path, monkeypatch):
    with opened(path) as spool:
        spool.append(missed(1))
        monkeypatch.setattr(module, "os", Disk(fails=1, stays=True))
        for _ in range(3):
            with pytest.raises(SpoolError, match="No space left on device"):
                spool.append(missed(2, caller_name="long" * 100))
        monkeypatch.setattr(module, "os", os)
        spool.append(missed(3))
        assert spool.oldest(10) == [missed(1), missed(3)]
    assert left(path) == [missed(1), missed(3)]


def test_an_append_is_on_disk_before_it_is_acknowledged(path, monkeypatch):
    disk = Disk(path)
    with opened(path) as spool:
        monkeypatch.setattr(module, "os", disk)
        for number in range(3):
            spool.append(missed(number))
            assert disk.durable.endswith(module.encode(missed(number)))


def test_a_disk_that_takes_little_at_once_gets_all_of_it(path, monkeypatch):
    monkeypatch.setattr(module, "os", Disk(at_once=7))
    assert left(filled(path)) == THREE


def test_a_new_spool_is_there_after_a_power_cut(path, monkeypatch):
    disk = Disk(path)
    monkeypatch.setattr(module, "os", disk)
    filled(path)
    assert disk.folders == 1


@pytest.mark.parametrize("crash", [True, False])
def test_cut_and_not_said_so_it_is_empty_and_what_comes_then_is_there(path, monkeypatch, crash):
    facts = [missed(n) for n in range(9)]
    with opened(filled(path, THREE)) as spool:
        spool.oldest(10)
        spool.drained(2)
        monkeypatch.setattr(module, "os", Disk(fails=3, stays=True))  # cut, synced
        with pytest.raises(SpoolError):
            spool.drained(1)
        monkeypatch.setattr(module, "os", os)
        if not crash:
            spool.append(*facts)
    if crash:
        filled(path, facts)
    assert left(path) == facts
    assert path.stat().st_size == HEAD + sum(len(module.encode(fact)) for fact in facts)
