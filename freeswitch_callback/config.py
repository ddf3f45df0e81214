"""The configuration file: one TOML file, every key with a default, every value checked.

An unknown key is an error that names the nearest known one. Secrets may also stand in a file of their own, in
the environment, or be a systemd credential:

    FREESWITCH_CALLBACK_<NODE>_PASSWORD      $CREDENTIALS_DIRECTORY/<node>.password
    FREESWITCH_CALLBACK_DATABASE_PASSWORD    $CREDENTIALS_DIRECTORY/database.password

Only the command line reads this; everybody else is given values.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from phonenumbers import SUPPORTED_REGIONS

from freeswitch_callback.core.capture import CaptureRules, Direct
from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.errors import ConfigurationError

DEFAULT_PATH = "/etc/freeswitch-callback/config.toml"
STOCK_PASSWORD = "ClueCon"

T = TypeVar("T")
Parser = Callable[[Any], Any]


class _Wrong(ValueError):
    """A value that its key does not take; the message completes '<key> …'."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"must be a text, not {value!r}")
    return value


def _whole(low: int, high: int) -> Parser:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _Wrong(f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    return parse


_LONGEST = 366 * 86400.0
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?\Z")


def duration(value: Any) -> float:
    """Seconds of "90s", "5m", "1h30m", "2d" or a plain number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return float(value)
    match = _DURATION.match(value) if isinstance(value, str) and 0 < len(value) < 30 else None
    if match is None:
        raise _Wrong(f'must be a duration like "30s", "5m" or "1h30m", not {value!r}')
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    length = days * 86400 + hours * 3600 + minutes * 60 + seconds
    if length > _LONGEST:
        raise _Wrong(f"must be a year at most, not {value!r}")
    return length


def _longer_than_nothing(value: Any) -> float:
    seconds = duration(value)
    if seconds <= 0:
        raise _Wrong("must be longer than 0 s")
    return seconds


def _ringing(value: Any) -> float:
    seconds = duration(value)
    if not 1 <= seconds <= 600:
        raise _Wrong(f"must be from 1s to 10m, not {value!r}")
    return seconds


def _list(item: Parser) -> Parser:
    def parse(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _Wrong(f"must be a list, not {value!r}")
        return tuple(item(v) for v in value)

    return parse


def _one_of(kind: type[T]) -> Parser:
    words = [str(member) for member in kind]  # type: ignore[attr-defined]

    def parse(value: Any) -> T:
        if value not in words:
            raise _Wrong(f"must be one of {', '.join(words)}, not {value!r}")
        return kind(value)  # type: ignore[call-arg]

    return parse


def _number(value: Any) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{4,14}", _text(value)):
        raise _Wrong(f'must be a number in E.164 like "+12025559999", not {value!r}')
    return str(value)


def _caller_id(value: Any) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{1,14}|[0-9]{1,15}", _text(value)):
        raise _Wrong(f'must be digits like "+12025559999", 15 at most, not {value!r}')
    return str(value)


def _country(value: Any) -> str:
    if _text(value) not in SUPPORTED_REGIONS:
        raise _Wrong(f'must be an ISO 3166 country like "US" or "GB", not {value!r}')
    return str(value)


def _dial_string(value: Any) -> str:
    text = _text(value)
    if text.count("{number}") != 1:
        raise _Wrong('must have {number} in it once, like "sofia/gateway/main/{number}"')
    rest = text.replace("{number}", "0")
    if not re.fullmatch(r"[A-Za-z0-9_]+/[A-Za-z0-9_.@:;=/+\-]+", rest) or ":_:" in text:
        raise _Wrong(f'must be one destination like "sofia/gateway/main/{{number}}", not {value!r}')
    return text


def _direct(value: Any) -> Direct:
    if not isinstance(value, dict) or set(value) != {"context", "destination", "queue"}:
        raise _Wrong(
            'must be like { context = "default", destination = "^10\\\\d\\\\d$", queue = "support@default" }'
        )
    try:
        pattern = re.compile(_text(value["destination"]))
    except re.error as error:
        raise _Wrong(f"has a destination that is no regular expression: {error}") from error
    return Direct(_text(value["context"]), pattern, _text(value["queue"]))


def _retry(value: Any) -> dict[str, float]:
    known = {"busy": 300.0, "no_answer": 1800.0, "failed": 900.0}
    if not isinstance(value, dict):
        raise _Wrong('must be like { busy = "5m", no_answer = "30m", failed = "15m" }')
    for key in value:
        if key not in known:
            raise _Wrong(f"has no {key!r}; it has busy, no_answer and failed")
    return known | {key: duration(v) for key, v in value.items()}


def _key(parse: Parser, default: Any = MISSING, factory: Any = MISSING) -> Any:
    if factory is not MISSING:
        return field(default_factory=factory, metadata={"parse": parse})
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    url: str = _key(_text, "sqlite:///var/lib/freeswitch-callback/callback.db")
    password: str | None = _key(_text, None)
    password_file: str | None = _key(_text, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSwitch:
    name: str = _key(_text, "fs1")
    host: str = _key(_text, "127.0.0.1")
    port: int = _key(_whole(1, 65535), 8021)
    password: str | None = _key(_text, None)
    password_file: str | None = _key(_text, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    queues: tuple[str, ...] = _key(_list(_text), ("*",))
    direct: tuple[Direct, ...] = _key(_list(_direct), ())
    called_number: tuple[str, ...] = _key(
        _list(_text), ("variable_sip_req_user", "Caller-Destination-Number")
    )
    min_wait: float = _key(duration, 3.0)
    variables: tuple[str, ...] = _key(_list(_text), ())
    hook_queue: str | None = _key(_text, None)

    def rules(self) -> CaptureRules:
        return CaptureRules(self.queues, self.direct, self.called_number, self.variables, self.hook_queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    default_region: str = _key(_country, "US")
    allow: tuple[str, ...] = _key(_list(_country), ("US",))
    own: tuple[str, ...] = _key(_list(_number), ())

    def rules(self) -> NumberRules:
        return NumberRules(self.default_region, frozenset(self.allow), frozenset(self.own))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """How clients are called back, for all queues or one."""

    mode: Mode = _key(_one_of(Mode), Mode.AGENT_FIRST)
    dial_string: str = _key(_dial_string, "sofia/gateway/main/{number}")
    caller_id_number: str = _key(_caller_id, "")
    attempts: int = _key(_whole(1, 100), 3)
    retry: Mapping[str, float] = _key(_retry, factory=lambda: _retry({}))
    expire: float = _key(_longer_than_nothing, 86400.0)
    ring_timeout: float = _key(_ringing, 30.0)
    min_talk: float = _key(duration, 10.0)
    agent_rest: float = _key(duration, 60.0)
    fairness: Fairness = _key(_one_of(Fairness), Fairness.LIVE_FIRST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    database: Database
    freeswitch: tuple[FreeSwitch, ...]
    capture: Capture
    numbers: Numbers
    recall: Recall
    queues: Mapping[str, Recall]
    poll: float

    def recall_for(self, queue: str) -> Recall:
        return self.queues.get(queue, self.recall)


def load(path: str | Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read and check a file; `ConfigurationError` says which key is wrong, where, and what to write."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: no such file; write one, or name another with --config FILE"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    try:
        return parse(text, environ)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse(text: str, environ: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration that a TOML text is."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"not TOML: {error}") from error
    _known(data, {"database", "freeswitch", "capture", "numbers", "recall"}, "")
    recall_table = _table(data, "recall")
    overrides = _table(recall_table, "queues", "recall.")
    poll = recall_table.get("poll", "5s")
    base = _section(Recall, {k: v for k, v in recall_table.items() if k not in ("queues", "poll")}, "recall")
    queues = {
        queue: _section(Recall, table, f'recall.queues."{queue}"', base) for queue, table in overrides.items()
    }
    return Configuration(
        database=_with_password(
            _section(Database, _table(data, "database"), "database"), "database", environ
        ),
        freeswitch=_nodes(data.get("freeswitch", []), environ),
        capture=_section(Capture, _table(data, "capture"), "capture"),
        numbers=_section(Numbers, _table(data, "numbers"), "numbers"),
        recall=base,
        queues=queues,
        poll=_value(_longer_than_nothing, poll, "recall.poll"),
    )


def _nodes(tables: Any, environ: Mapping[str, str]) -> tuple[FreeSwitch, ...]:
    if not isinstance(tables, list) or not tables:
        raise ConfigurationError("freeswitch: name at least one server in a [[freeswitch]] section")
    nodes: list[FreeSwitch] = []
    for index, table in enumerate(tables, 1):
        where = f"freeswitch[{index}]"
        node = _section(FreeSwitch, table, where)
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", node.name):
            raise ConfigurationError(
                f"{where}.name must be letters, digits, '.', '_' or '-', not {node.name!r}"
            )
        if any(node.name == other.name for other in nodes):
            raise ConfigurationError(f"{where}.name: {node.name!r} is there twice; each server needs its own")
        node = _with_password(node, node.name, environ)
        if node.password and any(ord(c) < 32 or ord(c) == 127 for c in node.password):
            raise ConfigurationError(f"{where}.password has a control character in it (a line break?)")
        if not re.fullmatch(r"[A-Za-z0-9_:%\[\]]+([.-][A-Za-z0-9_:%\[\]]+)*\.?", node.host):
            raise ConfigurationError(f"{where}.host must be a name or an address, not {node.host!r}")
        if not node.password:
            variable = _variable(node.name)
            raise ConfigurationError(
                f"{where}.password is missing; write it, or password_file, or set {variable}"
            )
        if node.password == STOCK_PASSWORD and not _loopback(node.host):
            raise ConfigurationError(
                f"{where}.password is the one that FreeSWITCH ships with, and {node.host} is not this "
                "machine: whoever reaches that port owns the switch; change it in event_socket.conf.xml, "
                "and here"
            )
        nodes.append(node)
    return tuple(nodes)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _variable(name: str) -> str:
    return f"FREESWITCH_CALLBACK_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_PASSWORD"


def _with_password(section: Any, name: str, environ: Mapping[str, str]) -> Any:
    """The section with its secret from where it stands: environment, file, systemd credential, the key."""
    if (secret := environ.get(_variable(name))) is not None:
        return replace(section, password=secret.strip())
    path = Path(section.password_file) if section.password_file else None
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if path is None and credentials and (Path(credentials) / f"{name}.password").exists():
        path = Path(credentials) / f"{name}.password"
    if path is None:
        return section
    try:
        return replace(section, password=path.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: the password file {path} cannot be read: {error}") from error


def _table(data: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where}{key} must be a section, written [{where}{key}]")
    return table


def _known(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, 1, 0.5)
            hint = (
                f"did you mean {where}{nearest[0]}?" if nearest else f"there are {', '.join(sorted(known))}"
            )
            raise ConfigurationError(f"{where}{key}: no such key; {hint}")


def _value(parser: Parser, value: Any, where: str) -> Any:
    try:
        return parser(value)
    except _Wrong as error:
        raise ConfigurationError(f"{where} {error}") from error


def _section(kind: type[T], table: Any, where: str, base: T | None = None) -> T:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where} must be a section")
    parsers = {f.name: f.metadata["parse"] for f in fields(kind)}  # type: ignore[arg-type]
    _known(table, set(parsers) | ({"queues", "poll"} if where == "recall" else set()), f"{where}.")
    values = {key: _value(parsers[key], value, f"{where}.{key}") for key, value in table.items()}
    return replace(base, **values) if base is not None else kind(**values)  # type: ignore[type-var]
