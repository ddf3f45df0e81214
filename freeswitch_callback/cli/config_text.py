"""The configuration as text: the example, what is in force, and the pages of the documentation.

All of it is written from the keys themselves (`config`), so that none of it can be about another release.
`toml` is the way back from what a parser gives to what it reads.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from freeswitch_callback import __version__
from freeswitch_callback.config import (
    OPTIONAL,
    SECTIONS,
    Configuration,
    FreeSwitch,
    Recall,
    Webhook,
    secret_of,
)
from freeswitch_callback.config_values import as_address, as_retry, as_zones
from freeswitch_callback.core.capture import Direct
from freeswitch_callback.core.hours import ALWAYS, Window
from freeswitch_callback.ledger.database import without_password

HIDDEN = "***"

_ALL_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WIDTH = 110
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_POLL = next(f for f in fields(Configuration) if f.name == "poll")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file. `default` is TOML, None if the key is not set unless somebody does; then there is
    an `example`."""

    section: str
    name: str
    means: str
    default: str | None
    example: str | None


def keys(section: str) -> Iterator[Key]:
    """Those of one section, in the order in which they are written here."""
    for each in _fields(section):
        default = default_of(each)
        unset = default is None or default == ""
        yield Key(
            section=section,
            name=each.name,
            means=each.metadata["means"],
            default=None if unset else toml(default, each.metadata["parse"]),
            example=each.metadata["example"],
        )


def heading(section: str) -> str:
    return f"[[{section}]]" if SECTIONS[section] in (FreeSwitch, Webhook) else f"[{section}]"


def example() -> str:
    """A file that changes nothing: every key stands there behind a `#`, with its default."""
    return "\n".join(_example()) + "\n"


def _example() -> Iterator[str]:
    yield from _comment(
        f"The configuration of freeswitch-callback {__version__}. Every key is here with its default; take "
        "the # before it away to change it. What has to be written is the password of FreeSWITCH, and for "
        '`run` recall.caller_id_number. A length of time is like "90s", "5m", "1h30m" or "2d", or a number '
        "of seconds. `freeswitch-callback config check` says what is wrong, all at once."
    )
    for section, kind in SECTIONS.items():
        yield ""
        yield from _comment(_first_line(kind))
        yield ("#" if section in OPTIONAL else "") + heading(section)
        for key in keys(section):
            yield ""
            yield from _comment(key.means)
            if key.example is not None:
                yield f"# For example: {key.name} = {key.example}"
            if key.default is not None:
                yield f"#{key.name} = {key.default}"
    yield ""
    yield from _comment("Any key of [recall], but poll, for one queue.")
    yield '#[recall.queues."support@default"]'
    yield '# For example: mode = "client-first"'


def shown(configuration: Configuration) -> Iterator[str]:
    """What is in force, as TOML: defaults are marked, passwords are not shown."""
    for row in rows(configuration):
        if row["key"] == "":
            yield row["section"]
            continue
        line = f"{row['key']} = {row['value']}" if row["value"] is not None else f"# {row['key']} is not set"
        yield f"{line:<60} # {row['from']}" if row["from"] else line


def rows(configuration: Configuration) -> Iterator[dict[str, Any]]:
    """A row for each key: `section`, `key`, `value` (TOML, None where it is not set) and `from`: "default",
    where a password stands, what a queue has from [recall], "" if the file says it. A row without a key
    begins a section."""
    for section in SECTIONS:
        found = getattr(configuration, "webhooks" if section == "webhook" else section)
        if found is None:  # there is no such section
            continue
        for part in found if isinstance(found, tuple) else (found,):
            yield _row(heading(section), "", None, "")
            name = part.name if isinstance(part, FreeSwitch) else section
            for each in _fields(section):
                holder = configuration if each is _POLL else part
                yield _told(heading(section), each, getattr(holder, each.name), part, name)
    for queue, recall in configuration.queues.items():
        section = f"[recall.queues.{_quoted(queue)}]"
        yield _row(section, "", None, "")
        for each in fields(Recall):
            value, usual = getattr(recall, each.name), getattr(configuration.recall, each.name)
            text = toml(value, each.metadata["parse"])
            yield _row(section, each.name, text, "as in [recall]" if value == usual else "")


def _told(section: str, each: Field[Any], value: Any, part: Any, name: str) -> dict[str, Any]:
    if each.name == "password":
        secret, stands = secret_of(part, name)
        return _row(section, each.name, None if secret is None else _quoted(HIDDEN), stands)
    if each.name == "secret":
        return _row(section, each.name, _quoted(HIDDEN), part.secret_file or "")
    default = value == default_of(each)
    if value is None or value == "":
        return _row(section, each.name, None, "")
    if each.name == "url":
        value = without_password(value)
    return _row(section, each.name, toml(value, each.metadata["parse"]), "default" if default else "")


def _row(section: str, key: str, value: str | None, where: str) -> dict[str, Any]:
    return {"section": section, "key": key, "value": value, "from": where}


def toml(value: Any, parse: Callable[[Any], Any] | None = None) -> str:
    """What is to be written for `parse` to give this value."""
    if parse is as_address:
        host, port = value
        return _quoted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if parse is as_zones:
        return _table(dict(value), toml)
    if parse is as_retry:
        plain = {name: value[name] for name in ("growth", "jitter")}
        lengths = {name: toml(length) for name, length in value.items() if name not in plain}
        return _table(lengths | {name: f"{number:g}" for name, number in plain.items()}, str)
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _quoted(value)
        case int():
            return str(value)
        case float():
            return _length(value)
        case re.Pattern():
            return _literal(value.pattern)
        case Direct():
            pattern = _literal(value.destination.pattern)
            context, queue = _quoted(value.context), _quoted(value.queue)
            return f"{{ context = {context}, destination = {pattern}, queue = {queue} }}"
        case Window():
            days, begin, end = _days(value.days), _time(value.start), _time(value.end)
            return f"{{ days = {days}, from = {begin}, to = {end} }}"
        case Mapping():
            return _table(value, toml)
    items = tuple(value)
    if items == ALWAYS.windows:
        return '"always"'
    if len(items) == 1 and isinstance(items[0], Window):
        return toml(items[0])
    return f"[{', '.join(map(toml, items))}]"


def _table(values: Mapping[str, Any], write: Callable[[Any], str]) -> str:
    pairs = ", ".join(f"{_name(name)} = {write(value)}" for name, value in values.items())
    return f"{{ {pairs} }}" if pairs else "{}"


def _name(name: str) -> str:
    return name if _BARE.match(name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _literal(pattern: str) -> str:
    return f"'{pattern}'" if pattern.isprintable() and "'" not in pattern else _quoted(pattern)


def _length(seconds: float) -> str:
    if seconds != int(seconds):
        return repr(seconds)
    left = int(seconds)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if unit == "d" and left < 2 * length:
            continue
        count, left = divmod(left, length)
        parts += [f"{count}{unit}"] if count else []
    return _quoted("".join(parts) or "0s")


def _days(days: frozenset[int]) -> str:
    """A row of days as from-to, however many rows there are."""
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    names = [
        _ALL_DAYS[run[0]] if len(run) == 1 else f"{_ALL_DAYS[run[0]]}-{_ALL_DAYS[run[-1]]}" for run in runs
    ]
    return _quoted(",".join(names))


def _time(minutes: int) -> str:
    return _quoted(f"{minutes // 60:02}:{minutes % 60:02}")


def _fields(section: str) -> tuple[Field[Any], ...]:
    found = fields(SECTIONS[section])
    return (*found, _POLL) if section == "recall" else found


def default_of(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _first_line(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").split())
