"""What a value of the configuration may be: each parser gives what the engine takes, or raises `Wrong`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from phonenumbers import SUPPORTED_REGIONS

from freeswitch_callback.core import hours, numbers
from freeswitch_callback.core.capture import Direct
from freeswitch_callback.core.hours import ALWAYS, Window

T = TypeVar("T")
Parser = Callable[[Any], Any]


class Wrong(ValueError):
    """A value that its key does not take; the message completes '<key> …'."""


def as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a text, not {value!r}")
    return value


def as_whole(low: int, high: int) -> Parser:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Wrong(f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    return parse


_LONGEST = 366 * 86400.0
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?\Z")


def as_duration(value: Any) -> float:
    """Seconds of "90s", "5m", "1h30m", "2d" or a plain number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return float(value)
    match = _DURATION.match(value) if isinstance(value, str) and 0 < len(value) < 30 else None
    if match is None:
        raise Wrong(f'must be a duration like "30s", "5m" or "1h30m", not {value!r}')
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    length = days * 86400 + hours * 3600 + minutes * 60 + seconds
    if length > _LONGEST:
        raise Wrong(f"must be a year at most, not {value!r}")
    return length


def as_length_of_time(value: Any) -> float:
    seconds = as_duration(value)
    if seconds <= 0:
        raise Wrong("must be longer than 0 s")
    return seconds


def as_ring_time(value: Any) -> float:
    seconds = as_duration(value)
    if not 1 <= seconds <= 600:
        raise Wrong(f"must be from 1s to 10m, not {value!r}")
    return seconds


def as_list_of(item: Parser) -> Parser:
    def parse(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(f"must be a list, not {value!r}")
        return tuple(item(v) for v in value)

    return parse


def as_one_of(kind: type[T]) -> Parser:
    words = [str(member) for member in kind]  # type: ignore[attr-defined]

    def parse(value: Any) -> T:
        if value not in words:
            raise Wrong(f"must be one of {', '.join(words)}, not {value!r}")
        return kind(value)  # type: ignore[call-arg]

    return parse


def as_number(value: Any) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{4,14}", as_text(value)):
        raise Wrong(f'must be a number in E.164 like "+12025559999", not {value!r}')
    return str(value)


def as_caller_id(value: Any) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{1,14}|[0-9]{1,15}", as_text(value)):
        raise Wrong(f'must be digits like "+12025559999", 15 at most, not {value!r}')
    return str(value)


def as_extension(value: Any) -> str:
    """An extension of the dialplan, perhaps with `:` and its context; empty for none."""
    if not re.fullmatch(r"([A-Za-z0-9_.-]{1,64}(:[A-Za-z0-9_.-]{1,64})?)?", as_text(value)):
        raise Wrong(
            f'must be an extension like "callback_connect" or "callback_connect:default", not {value!r}'
        )
    return str(value)


def as_country(value: Any) -> str:
    if as_text(value) not in SUPPORTED_REGIONS:
        raise Wrong(f'must be an ISO 3166 country like "US" or "GB", not {value!r}')
    return str(value)


def as_dial_string(value: Any) -> str:
    text = as_text(value)
    if text.count("{number}") != 1:
        raise Wrong('must have {number} in it once, like "sofia/gateway/main/{number}"')
    rest = text.replace("{number}", "0")
    if not re.fullmatch(r"[A-Za-z0-9_]+/[A-Za-z0-9_.@:;=/+\-]+", rest) or ":_:" in text:
        raise Wrong(f'must be one destination like "sofia/gateway/main/{{number}}", not {value!r}')
    return text


def as_direct(value: Any) -> Direct:
    if not isinstance(value, dict) or set(value) != {"context", "destination", "queue"}:
        raise Wrong(
            'must be like { context = "default", destination = "^10\\\\d\\\\d$", queue = "support@default" }'
        )
    try:
        pattern = re.compile(as_text(value["destination"]))
    except re.error as error:
        raise Wrong(f"has a destination that is no regular expression: {error}") from error
    return Direct(as_text(value["context"]), pattern, as_text(value["queue"]))


def as_table_of(parsers: Mapping[str, Parser], example: str) -> Parser:
    """A small table, all of whose keys may be left out."""

    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Wrong(f"must be like {example}")
        for key in value:
            if key not in parsers:
                raise Wrong(f"has no {key!r}; it has {', '.join(parsers)}")
        try:
            return {key: parsers[key](given) for key, given in value.items()}
        except Wrong as error:
            raise Wrong(f"must be like {example}: {error}") from error

    return parse


def as_fraction(low: float, high: float) -> Parser:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Wrong(f"must be a number from {low:g} to {high:g}, not {value!r}")
        return float(value)

    return parse


_RETRY = {"busy": 300.0, "no_answer": 1800.0, "failed": 900.0, "growth": 1.0, "jitter": 0.1}


def as_retry(value: Any) -> dict[str, float]:
    delays = dict.fromkeys(("busy", "no_answer", "failed"), as_duration)
    parse = as_table_of(
        delays | {"growth": as_fraction(1, 10), "jitter": as_fraction(0, 1)},
        '{ busy = "5m", no_answer = "30m", failed = "15m", growth = 1.5, jitter = 0.1 }',
    )
    return _RETRY | parse(value)


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def as_days(value: Any) -> frozenset[int]:
    """The weekdays, 0 is Monday, of "mon-fri", "sat" or "mon,wed,fri-sun"."""
    days: set[int] = set()
    for part in as_text(value).lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise Wrong(f'days must be like "mon-fri" or "mon,wed,sat-sun", not {value!r}')
        begin = _DAYS.index(first)
        length = (_DAYS.index(last) - begin) % 7 if dash else 0
        days |= {(begin + n) % 7 for n in range(length + 1)}
    return frozenset(days)


def as_time_of_day(value: Any) -> int:
    """Minutes from midnight."""
    match = re.fullmatch(r"([01]?[0-9]|2[0-4]):([0-5][0-9])", as_text(value))
    minutes = int(match[1]) * 60 + int(match[2]) if match else 1441
    if minutes > 1440:
        raise Wrong(f'a time must be like "09:00", from "00:00" to "24:00", not {value!r}')
    return minutes


_HOURS = '{ days = "mon-fri", from = "09:00", to = "20:00" }, a list of such, or "always"'


def as_hours(value: Any) -> tuple[Window, ...]:
    if value == "always":
        return ALWAYS.windows
    parse = as_table_of({"days": as_days, "from": as_time_of_day, "to": as_time_of_day}, _HOURS)
    windows = []
    for given in value if isinstance(value, list) else [value]:
        table = {"days": frozenset(range(7)), "from": 0, "to": 1440} | parse(given)
        if table["from"] >= table["to"]:
            raise Wrong(f"must be like {_HOURS}: from must be before to; hours over midnight are two")
        windows.append(Window(table["days"], table["from"], table["to"]))
    return tuple(windows)


def as_calendar(value: Any) -> str:
    try:
        hours.check_calendar(as_text(value))
    except ValueError as error:
        raise Wrong(str(error)) from error
    return str(value)


def as_zone(value: Any) -> str:
    if not hours.known_zone(as_text(value)):
        raise Wrong(f'must be a time zone like "Europe/Berlin", not {value!r}')
    return str(value)


def as_zones(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise Wrong('must be like { RU = "Europe/Moscow" }')
    return tuple(sorted((as_country(country), as_zone(zone)) for country, zone in value.items()))


def as_type_of_number(value: Any) -> str:
    if as_text(value) not in numbers.TYPES:
        raise Wrong(f"must be of {', '.join(numbers.TYPES)}, not {value!r}")
    return str(value)


def as_prefix(value: Any) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{0,14}", as_text(value)):
        raise Wrong(f'must be the beginning of numbers in E.164, like "+4930", not {value!r}')
    return str(value)


def as_folders(value: Any) -> dict[str, tuple[str, ...]]:
    """A folder, or several; or by the name of the node that writes there. Without one it is ""."""
    by_node = value if isinstance(value, dict) else {"": value}
    return {node: _folders(folders) for node, folders in by_node.items()}


def _folders(value: Any) -> tuple[str, ...]:
    folders = tuple(value) if isinstance(value, list) else (value,)
    if not all(isinstance(path, str) and path.startswith("/") and "\0" not in path for path in folders):
        raise Wrong(f'must be a folder like "/var/log/freeswitch/json_cdr", or a list of them, not {value!r}')
    return folders


def as_expression(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(as_text(value))
    except re.error as error:
        raise Wrong(f"must be a regular expression like '1[0-9]{{3}}': {error}") from error


def as_breaker(value: Any) -> dict[str, Any]:
    parse = as_table_of(
        {"recalls": as_whole(0, 1_000_000), "within": as_length_of_time}, '{ recalls = 50, within = "10m" }'
    )
    return {"recalls": 50, "within": 600.0} | parse(value)


def as_yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {value!r}")
    return value


def as_address(value: Any) -> tuple[str, int]:
    """A host and a port of "127.0.0.1:8088", "[::1]:8088" or "localhost:8088"."""
    host, colon, port = as_text(value).rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    fits = re.fullmatch(r"[0-9A-Fa-f:.]+" if bracketed else r"[A-Za-z0-9.-]+", host)
    if not (colon and fits and re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= 65535):
        raise Wrong(f'must be an address and a port like "127.0.0.1:8088" or "[::1]:8088", not {value!r}')
    return host, int(port)


def as_network(value: Any) -> str:
    try:
        return str(ipaddress.ip_network(as_text(value)))
    except ValueError as error:
        raise Wrong(f'must be an address or a network like "10.0.0.7" or "10.0.0.0/24": {error}') from error


def as_names(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise Wrong('must be like { "1001@default" = "Anna" }')
    return dict(value)


_LINK = re.compile(r"https?://[^\s/?#{}@\\]+(?:[/?#][^\s{}]*(?:\{[A-Za-z0-9_]+\}[^\s{}]*)*)?\Z")
_PLACE = re.compile(r"\{([A-Za-z0-9_]+)\}")


def places_in(template: str) -> list[str]:
    """The names in braces."""
    return _PLACE.findall(template)


def as_links(value: Any) -> dict[str, str]:
    """Templates of addresses, by what the link is called. The server is fixed: a caller's value is never a
    part of it."""
    example = '{ CRM = "https://crm.example/search?phone={number}" }'
    if not isinstance(value, dict):
        raise Wrong(f"must be like {example}")
    for name, template in value.items():
        if not isinstance(template, str) or not _LINK.match(template):
            raise Wrong(f"must be like {example}, names in braces behind the server only; not {template!r}")
        if not name.strip():
            raise Wrong(f"must name each link, like {example}")
    return dict(value)


HOOK_EVENTS = ("recorded", "reached", "closed")


def as_hook_event(value: Any) -> str:
    if value not in HOOK_EVENTS:
        raise Wrong(f"must be of {', '.join(HOOK_EVENTS)}, not {value!r}")
    return str(value)


_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[!-~]*)?\Z")


def as_url(value: Any) -> str:
    """Without a user and a password: those would stand in logs."""
    if not _URL.match(as_text(value)) or "#" in value:
        raise Wrong(f'must be an address like "https://crm.example/hook", not {value!r}')
    return str(value)
