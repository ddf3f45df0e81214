"""The files of mod_json_cdr: where they lie, and the record in each of them.

The module writes `<uuid>.cdr.json` (`a_<uuid>.cdr.json` with `prefix-a-leg`) with one JSON object and a line
break, in place, so that a reader can meet half of it. By its settings (its source, 1.10.12):

- `encode-values` (the default) percent-encodes the value of each channel variable, and nothing else; without
  it they stand there as they are;
- what it could not post to `url` goes to `err-log-dir`, as JSON, or with `encode` as the whole object
  percent-encoded or in base64. The posts themselves have `cdr=` in front;
- it never encodes what looks encoded already. In a whole object that was percent-encoded, a quote in a value
  therefore looks like a quote around one.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from urllib.parse import unquote_plus

from freeswitch_callback.core.catchup import MEMBER
from freeswitch_callback.core.cdr import from_cdr
from freeswitch_callback.core.facts import Missed, Served
from freeswitch_callback.core.legs import CaptureRules, whole
from freeswitch_callback.errors import ProtocolError, UsageError

SUFFIX = ".json"
LARGEST = 2 << 20
"""Bytes; a record of a real call has some ten thousand."""

_NOT_ENCODED = frozenset('\r\n #&+:;<=>?@[\\]^`{|}"')
"""What `encode-values` leaves in no value (SWITCH_URL_UNSAFE without the percent sign)."""

_VARIABLES = re.compile("%22variables%22%3A%7B(%22.*?%22)%7D,(?=%22(?:app_log|callflow)%22%3A)", re.DOTALL)
_NAME = re.compile(r"[\w.\-]+\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Call:
    """What one record tells. `started` and `ended` are the leg's. `other_names`: the call uuids that the
    catch-up may have made up for it."""

    fact: Missed | Served
    started: datetime
    ended: datetime
    other_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or a folder, that tells nothing, and why."""

    path: str
    why: str


def find(paths: Sequence[str]) -> Iterator[str | Unreadable]:
    """The files to be read: those that are named, and all `*.json` in folders and below.

    Raises `UsageError`, before it gives the first, for a path that does not exist or is neither.
    """
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"{path[:200]!r} cannot be read: {why}; name files or folders") from None
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UsageError(f"{path[:200]!r} is neither a file nor a folder")
    folders = [path for path in paths if os.path.isdir(path)]
    return chain((path for path in paths if path not in folders), walk(folders))


def walk(folders: Iterable[str]) -> Iterator[str | Unreadable]:
    """All `*.json` in folders and below; where one cannot be listed, that."""
    left = list(folders)
    while left:
        folder = left.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif entry.name.endswith(SUFFIX) and entry.is_file():
                        yield entry.path
        except OSError as error:
            yield Unreadable(folder, f"cannot be listed: {error.strerror}")


def read(path: str, node: str, rules: CaptureRules) -> Call | None:
    """The call in one file, None if it is none of ours; `ProtocolError` if there is no record in it."""
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise ProtocolError(f"cannot be read: {error.strerror}") from error
    record = decode(raw)
    fact = from_cdr(record, node, rules)
    if fact is None:
        return None
    variables = record["variables"]
    try:
        return Call(
            fact=fact,
            started=_moment(int(record["callflow"][-1]["times"]["created_time"]) / 1e6),
            ended=_moment(float(variables["end_epoch"])),
            other_names=_names_of_member(variables),
        )
    except (ValueError, OverflowError, OSError) as error:
        raise ProtocolError(f"not a record of mod_json_cdr: {error}") from error


def _names_of_member(variables: Mapping[str, Any]) -> tuple[str, ...]:
    """The queue's list and the leg's variables are not written in the same moment: a second may begin."""
    member, left = variables.get("cc_member_uuid"), whole(str(variables.get("cc_queue_canceled_epoch")))
    return tuple(f"{MEMBER}{member}:{left + second}" for second in (0, -1, 1)) if member and left else ()


def decode(raw: bytes) -> dict[str, Any]:
    """The record in a file's bytes, its variables encoded as `from_cdr` wants them."""
    if len(raw) > LARGEST:
        raise ProtocolError(f"larger than {LARGEST >> 20} MB: no record of a call")
    # A caller can send bytes that are no UTF-8: they are kept, as those of an event are.
    text = raw.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip("\0\r\n\t ")
    text = text.removeprefix("cdr=")
    if not text:
        raise ProtocolError("empty")
    if text[:3].upper() == "%7B":
        record = _encoded_as_a_whole(text)
    elif text.startswith("{"):
        record = _json(text)
    else:
        record = _json(_base64(text))
    return _with_encoded_values(record)


def _json(text: str, *, unique: bool = False) -> dict[str, Any]:
    try:
        record = json.loads(text, strict=False, object_pairs_hook=_unique if unique else None)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON, or cut off: {error}") from error
    if not isinstance(record, dict):
        raise ProtocolError("JSON, but not a record of mod_json_cdr")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A value that looks like a variable is to replace none."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _base64(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("neither JSON, nor percent-encoded, nor base64") from error


def _encoded_as_a_whole(text: str) -> dict[str, Any]:
    """What `encode` makes. Where quotes in the variables' values make it look broken, those are taken apart
    before they are decoded: a value goes on until a quote behind which the next name begins."""
    try:
        return _json(_decoded(text), unique=True)
    except ProtocolError as error:
        found = _VARIABLES.search(text)
        if found is None:
            raise error
        rest = _json(_decoded(text[: found.start()] + text[found.end() :]), unique=True)
        return rest | {"variables": _unique_variables(found[1])}


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape")


def _unique_variables(text: str) -> dict[str, str]:
    pairs: list[tuple[str, str]] = []
    for part in text.removeprefix("%22").removesuffix("%22").split("%22,%22"):
        name, separator, value = part.partition("%22%3A%22")
        if separator and _NAME.match(name):
            pairs.append((name, value))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]}%22,%22{part}")
    try:
        return _unique(pairs)
    except ValueError as error:
        raise ProtocolError(f"not a record of mod_json_cdr: {error}") from error


def _with_encoded_values(record: dict[str, Any]) -> dict[str, Any]:
    """Without `encode-values`, a percent sign is one: it is encoded, as it will be decoded."""
    variables = record.get("variables")
    if not isinstance(variables, dict):
        return record
    if not any(_NOT_ENCODED.intersection(str(value)) for value in variables.values()):
        return record
    return record | {"variables": {name: str(value).replace("%", "%25") for name, value in variables.items()}}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
