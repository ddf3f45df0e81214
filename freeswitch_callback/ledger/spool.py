"""Where facts wait on disk while the database is away: one file, written by one process, read in order.

    freeswitch-callback spool 00000000000000000064 1d1f5f6e            the head, padded to 64 bytes
    {"v":1,"fact":"missed","node":"fs1",…} 5a3c9e10                    one fact a line

The head says up to which byte the facts have been drained, so that a crash in mid-drain repeats no more than
what was read last. It and every line end with the CRC-32 of what stands before. The text is UTF-8, but for
lone surrogates (bytes of a caller's name that were not UTF-8), which are written as if they were characters:
what is read is exactly what was appended.

What a crash in mid-append leaves, a last line without its end, was acknowledged to nobody: it is dropped with
a warning. Any other line that cannot be read is moved to a file beside (`.damaged`) with an error in the log.
An empty spool takes 64 bytes: the file is cut when all of it has been drained.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import structlog
from gevent.threadpool import ThreadPool

from freeswitch_callback.core.facts import Missed, Reached, Reason, Served
from freeswitch_callback.errors import CallbackError

log = structlog.get_logger(__name__)

Fact = Missed | Served | Reached
Result = TypeVar("Result")

VERSION = 1
"""Of the lines. Raise it when an older release could not read them any more; go on reading the older ones."""

LIMIT = 256 * 1024 * 1024
"""Bytes: some 500,000 missed calls."""

HEAD = 64
_MAGIC = b"freeswitch-callback spool "
_KINDS: dict[str, type[Any]] = {"missed": Missed, "served": Served, "reached": Reached}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "calldate": datetime.fromisoformat,
    "at": datetime.fromisoformat,
    "reason": Reason,
}


class SpoolError(CallbackError):
    """The spool's disk does not do what it should; nothing that was acknowledged is lost."""


class SpoolFull(SpoolError):
    """Its limit is reached. Nothing was written; there is room again once it has been drained."""


class SpoolInUse(SpoolError):
    """Another process writes to it."""


class SpoolTooNew(SpoolError):
    """A newer release wrote it."""


class Spool:
    """An open spool, locked for this process.

    Opening raises `SpoolInUse`, `SpoolTooNew` and, for a file that cannot be opened or is none of ours,
    `SpoolError`; nothing has been changed then. What reads and writes runs in a native thread, one call at a
    time: only the calling greenlet waits.
    """

    def __init__(self, path: str | Path, *, limit_bytes: int = LIMIT) -> None:
        self.path = Path(path)
        self.limit = limit_bytes
        self._read: list[int] = []  # the bytes of each line that `oldest` gave
        self._torn = False  # something that failed may stand behind the end
        self._head = HEAD  # what the head says
        self._fd = self._opened()
        try:
            self._start, self._end, self._count = self._examined()
        except OSError as error:
            os.close(self._fd)
            raise self._trouble("cannot be read", error) from error
        except SpoolError:
            os.close(self._fd)
            raise
        self._threads = ThreadPool(1)

    def length(self) -> int:
        """How many facts wait in it."""
        return self._count

    @property
    def size(self) -> int:
        """Bytes that count against `limit`: what has been drained does, until all has."""
        return self._end - HEAD

    def append(self, *facts: Fact) -> None:
        """On disk when it returns, behind all others. Raises `SpoolFull`, or `SpoolError` if the disk does
        not take them; then none of them counts."""
        self._in_thread(self._append, b"".join(map(encode, facts)), len(facts))

    def oldest(self, limit: int) -> list[Fact]:
        """The first facts that wait, at most so many; the same again until they are `drained`. Empty only if
        none is left. One reader only."""
        facts, damaged = self._in_thread(self._oldest, limit)
        for position in damaged:
            log.error("spool_damaged", path=str(self.path), at=position, kept_in=str(self._damaged))
        return facts

    def drained(self, count: int) -> None:
        """The first `count` of those that `oldest` gave are in the database."""
        self._in_thread(self._drained, count)

    def put_aside(self) -> None:
        """Moves the first of those that `oldest` gave to `.damaged`: it can never be drained."""
        self._in_thread(self._put_aside)

    def close(self) -> None:
        """Gives up the lock; what waits, waits for whoever opens it next."""
        self._in_thread(self._close)
        self._threads.kill()

    # --- opening -----------------------------------------------------------------------------------------

    def _opened(self) -> int:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = _private(str(self.path), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._trouble("cannot be opened", error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise SpoolInUse(
                f"the spool {self.path} is in use by another process (`fuser {self.path}` tells by which): "
                f"give each engine a folder of its own"
            ) from error
        except OSError as error:
            os.close(fd)
            raise self._trouble("cannot be locked", error) from error
        return fd

    def _examined(self) -> tuple[int, int, int]:
        """Where the facts that wait begin and end, and how many they are; the file is in order then."""
        start, end = self._drained_to(), os.fstat(self._fd).st_size
        if start > end:  # it was cut, and the head not yet written
            self._write_head(HEAD)
            return HEAD, HEAD, 0
        at, count = start, 0
        with self._reading(start) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    log.warning("spool_half_line_dropped", path=str(self.path), at=at, bytes=len(line))
                    os.ftruncate(self._fd, at)
                    os.fsync(self._fd)
                    break
                if _version(line) > VERSION:
                    raise SpoolTooNew(
                        f"the spool {self.path} was written by a newer release (version {_version(line)}, "
                        f"this one reads up to {VERSION}): install that one again, or let it drain the spool "
                        f"first"
                    )
                at += len(line)
                count += 1
        return start, at, count

    def _drained_to(self) -> int:
        head = os.pread(self._fd, HEAD, 0)
        if len(head) < HEAD:
            if not _MAGIC.startswith(head[: len(_MAGIC)]):
                raise self._none_of_ours()
            self._write_head(HEAD)
            self._sync_folder()
            return HEAD
        if not head.startswith(_MAGIC):
            raise self._none_of_ours()
        said, _, check = head.rstrip().rpartition(b" ")
        if check != _crc(said):
            log.error("spool_head_damaged", path=str(self.path), hint="all that is in it is drained again")
            self._write_head(HEAD)
            return HEAD
        self._head = int(said.removeprefix(_MAGIC))
        return self._head

    def _none_of_ours(self) -> SpoolError:
        return SpoolError(f"{self.path} is not a spool; nothing was changed: move it away")

    def _sync_folder(self) -> None:
        """A new file is there after a power cut only if its folder says so."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # --- in the thread -------------------------------------------------------------------------------------

    def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        # An expected error comes back as a value: gevent prints whatever a thread raises.
        def run() -> _Done[Result] | SpoolError | OSError:
            try:
                return _Done(work(*arguments))
            except (SpoolError, OSError) as error:
                return error

        outcome: _Done[Result] | SpoolError | OSError = self._threads.spawn(run).get()
        if isinstance(outcome, _Done):
            return outcome.result
        if isinstance(outcome, SpoolError):
            raise outcome
        raise self._trouble("does not work", outcome) from outcome

    def _append(self, data: bytes, count: int) -> None:
        if self.size + len(data) > self.limit:
            raise SpoolFull(
                f"the spool {self.path} is full: {self.size} of {self.limit} bytes, {self._count} facts wait"
            )
        if self._head > self._start:  # it was cut, and the head not yet written
            self._write_head(self._start)
        if self._torn:
            os.ftruncate(self._fd, self._end)
        self._torn = True
        self._write(data, self._end)
        os.fsync(self._fd)
        self._torn = False
        self._end += len(data)
        self._count += count

    def _oldest(self, limit: int) -> tuple[list[Fact], list[int]]:
        facts: list[Fact] = []
        damaged: list[int] = []
        self._read = []
        while not facts and self._start < self._end:
            with self._reading(self._start) as file:
                for line in file:
                    try:
                        facts.append(decode(line))
                    except ValueError:
                        if not facts:
                            damaged.append(self._start)
                            self._read = [len(line)]
                            self._put_aside()
                        break  # to come back when it is the first
                    self._read.append(len(line))
                    if len(facts) == limit or self._start + sum(self._read) >= self._end:
                        break
        return facts, damaged

    def _drained(self, count: int) -> None:
        # First for ourselves: while the head cannot be written, nothing is drained twice by this process.
        done, self._read = self._read[:count], self._read[count:]
        self._start += sum(done)
        try:
            if self._start == self._end:
                # Surely cut before the head says so: "nothing drained" on top of all of it drains it again.
                os.ftruncate(self._fd, HEAD)
                self._start = self._end = HEAD
                os.fsync(self._fd)
            self._write_head(self._start)
        finally:
            self._count -= len(done)

    def _put_aside(self) -> None:
        line = os.pread(self._fd, self._read[0], self._start)
        with open(self._damaged, "ab", opener=_private) as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._sync_folder()
        self._drained(1)

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _write_head(self, start: int) -> None:
        said = _MAGIC + b"%020d" % start
        self._write((said + b" " + _crc(said)).ljust(HEAD - 1) + b"\n", 0)
        os.fsync(self._fd)
        self._head = start

    def _write(self, data: bytes, at: int) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self._fd, left, at)
            left, at = left[written:], at + written

    @contextmanager
    def _reading(self, start: int) -> Iterator[BinaryIO]:
        with open(os.dup(self._fd), "rb") as file:
            file.seek(start)
            yield file

    @property
    def _damaged(self) -> Path:
        return self.path.with_name(self.path.name + ".damaged")

    def _trouble(self, what: str, error: OSError) -> SpoolError:
        return SpoolError(f"the spool {self.path} {what}: {error}")


def _private(path: str, flags: int) -> int:
    """Callers' names and numbers are for this user alone."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


@dataclass(frozen=True, slots=True)
class _Done(Generic[Result]):
    result: Result


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many facts wait in a spool, and since when the first of them does: when its call came in."""

    facts: int = 0
    since: datetime | None = None


def peek(path: Path) -> Waiting:
    """What waits in a spool that may be another process's; none if there is no such file. Raises `OSError`,
    and `SpoolError` for a file that is none of ours."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            if head and not head.startswith(_MAGIC):
                raise SpoolError("it is not a spool")
            said, _, check = head.rstrip().rpartition(b" ")
            file.seek(int(said.removeprefix(_MAGIC)) if check == _crc(said) else HEAD)
            first = file.readline()
            return Waiting(first.endswith(b"\n") + sum(line.endswith(b"\n") for line in file), _since(first))
    except FileNotFoundError:
        return Waiting()


def _since(line: bytes) -> datetime | None:
    try:
        fact = decode(line)
    except ValueError:
        return None
    return fact.calldate if isinstance(fact, Missed) else fact.at


def encode(fact: Fact) -> bytes:
    """The fact's line."""
    said = {"v": VERSION, "fact": _NAMES[type(fact)]} | {f.name: getattr(fact, f.name) for f in fields(fact)}
    text = json.dumps(said, default=_plain, ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "surrogatepass")
    return data + b" " + _crc(data) + b"\n"


def decode(line: bytes) -> Fact:
    """The fact of a line; `ValueError` if it is damaged. What an older release did not know yet has its
    default."""
    said = _checked(line)
    try:
        kind = _KINDS[said["fact"]]
        names = {f.name for f in fields(kind)}
        fact: Fact = kind(**{n: _PARSERS.get(n, _same)(value) for n, value in said.items() if n in names})
    except (KeyError, TypeError) as error:
        raise ValueError(f"no fact: {error!r}") from error
    return fact


def _version(line: bytes) -> int:
    """What a line says of itself; 0 where it cannot be told."""
    if line.startswith(b'{"v":%d,' % VERSION):
        return VERSION
    try:
        version = _checked(line)["v"]
    except (ValueError, KeyError):
        return 0
    return version if isinstance(version, int) else 0


def _checked(line: bytes) -> dict[str, Any]:
    data, _, check = line.removesuffix(b"\n").rpartition(b" ")
    if check != _crc(data):
        raise ValueError("its check does not fit")
    said = json.loads(data.decode("utf-8", "surrogatepass"))
    if not isinstance(said, dict):
        raise ValueError("no fact")
    return said


def _crc(data: bytes) -> bytes:
    return b"%08x" % zlib.crc32(data)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is part of no fact")


def _same(value: Any) -> Any:
    return value
