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
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from freeswitch_callback.config_values import (
    Parser,
    Wrong,
    as_breaker,
    as_calendar,
    as_caller_id,
    as_country,
    as_dial_string,
    as_direct,
    as_duration,
    as_expression,
    as_extension,
    as_folders,
    as_hours,
    as_length_of_time,
    as_list_of,
    as_number,
    as_one_of,
    as_prefix,
    as_retry,
    as_ring_time,
    as_text,
    as_type_of_number,
    as_whole,
    as_zone,
    as_zones,
)
from freeswitch_callback.core.capture import CaptureRules, Direct
from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.core.hours import Window
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.errors import ConfigurationError

STOCK_PASSWORD = "ClueCon"

T = TypeVar("T")


def _key(parse: Parser, default: Any = MISSING, factory: Any = MISSING) -> Any:
    if factory is not MISSING:
        return field(default_factory=factory, metadata={"parse": parse})
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    url: str = _key(as_text, "sqlite:///var/lib/freeswitch-callback/callback.db")
    password: str | None = _key(as_text, None)
    password_file: str | None = _key(as_text, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSwitch:
    name: str = _key(as_text, "fs1")
    host: str = _key(as_text, "127.0.0.1")
    port: int = _key(as_whole(1, 65535), 8021)
    password: str | None = _key(as_text, None)
    password_file: str | None = _key(as_text, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    queues: tuple[str, ...] = _key(as_list_of(as_text), ("*",))
    direct: tuple[Direct, ...] = _key(as_list_of(as_direct), ())
    called_number: tuple[str, ...] = _key(
        as_list_of(as_text), ("variable_sip_req_user", "Caller-Destination-Number")
    )
    min_wait: float = _key(as_duration, 3.0)
    variables: tuple[str, ...] = _key(as_list_of(as_text), ())
    hook_queue: str | None = _key(as_text, None)
    spool: str | None = _key(as_text, None)
    cdr_folder: Mapping[str, tuple[str, ...]] = _key(as_folders, factory=dict)

    def rules(self) -> CaptureRules:
        return CaptureRules(self.queues, self.direct, self.called_number, self.variables, self.hook_queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    default_region: str = _key(as_country, "US")
    allow: tuple[str, ...] = _key(as_list_of(as_country), ("US",))
    types: tuple[str, ...] = _key(as_list_of(as_type_of_number), tuple(sorted(NumberRules().types)))
    allow_prefixes: tuple[str, ...] = _key(as_list_of(as_prefix), ())
    deny_prefixes: tuple[str, ...] = _key(as_list_of(as_prefix), ())
    own: tuple[str, ...] = _key(as_list_of(as_number), ())
    shared: tuple[str, ...] = _key(as_list_of(as_number), ())
    extensions: tuple[re.Pattern[str], ...] = _key(as_list_of(as_expression), ())
    extension_dial_string: str = _key(as_dial_string, "user/{number}")
    zones: tuple[tuple[str, str], ...] = _key(as_zones, ())

    def rules(self) -> NumberRules:
        return NumberRules(
            default_region=self.default_region,
            allow=frozenset(self.allow),
            own=frozenset(self.own),
            types=frozenset(self.types),
            allow_prefixes=frozenset(self.allow_prefixes),
            deny_prefixes=frozenset(self.deny_prefixes),
            extensions=self.extensions,
            shared=frozenset(self.shared),
            zones=self.zones,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much may be dialled, over all queues; 0 is without limit."""

    per_number: int = _key(as_whole(0, 1000), 5)
    per_prefix: int = _key(as_whole(0, 1_000_000), 100)
    per_minute: int = _key(as_whole(0, 1_000_000), 0)
    breaker: Mapping[str, Any] = _key(as_breaker, factory=lambda: as_breaker({}))
    prefix_hides: int = _key(as_whole(0, 10), 4)

    def rules(self, at_once: int) -> CapRules:
        return CapRules(
            per_number=self.per_number,
            per_prefix=self.per_prefix,
            at_once=at_once,
            per_minute=self.per_minute,
            breaker=self.breaker["recalls"],
            breaker_within=self.breaker["within"],
            block=self.prefix_hides,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """How clients are called back, for all queues or one."""

    mode: Mode = _key(as_one_of(Mode), Mode.AGENT_FIRST)
    dial_string: str = _key(as_dial_string, "sofia/gateway/main/{number}")
    caller_id_number: str = _key(as_caller_id, "")
    connect: str = _key(as_extension, "")
    attempts: int = _key(as_whole(1, 100), 3)
    retry: Mapping[str, float] = _key(as_retry, factory=lambda: as_retry({}))
    expire: float = _key(as_length_of_time, 86400.0)
    ring_timeout: float = _key(as_ring_time, 30.0)
    min_talk: float = _key(as_duration, 10.0)
    agent_rest: float = _key(as_duration, 60.0)
    hours: tuple[Window, ...] = _key(as_hours, (Window(frozenset(range(5)), 9 * 60, 20 * 60),))
    holidays: tuple[str, ...] = _key(as_list_of(as_calendar), ("client",))
    zone: str = _key(as_zone, "America/New_York")
    fairness: Fairness = _key(as_one_of(Fairness), Fairness.LIVE_FIRST)
    priority: int = _key(as_whole(-1000, 1000), 0)
    at_once: int = _key(as_whole(0, 10_000), 0)
    prefer_agent: float = _key(as_duration, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    database: Database
    freeswitch: tuple[FreeSwitch, ...]
    capture: Capture
    numbers: Numbers
    caps: Caps
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
    _known(data, {"database", "freeswitch", "capture", "numbers", "caps", "recall"}, "")
    recall_table = _table(data, "recall")
    overrides = _table(recall_table, "queues", "recall.")
    poll = recall_table.get("poll", "5s")
    base = _section(Recall, {k: v for k, v in recall_table.items() if k not in ("queues", "poll")}, "recall")
    queues = {
        queue: _section(Recall, table, f'recall.queues."{queue}"', base) for queue, table in overrides.items()
    }
    nodes = _nodes(data.get("freeswitch", []), environ)
    capture = _section(Capture, _table(data, "capture"), "capture")
    return Configuration(
        database=_with_password(
            _section(Database, _table(data, "database"), "database"), "database", environ
        ),
        freeswitch=nodes,
        capture=replace(capture, cdr_folder=_by_node(capture.cdr_folder, nodes)),
        numbers=_section(Numbers, _table(data, "numbers"), "numbers"),
        caps=_section(Caps, _table(data, "caps"), "caps"),
        recall=base,
        queues=queues,
        poll=_value(as_length_of_time, poll, "recall.poll"),
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


def _by_node(
    folders: Mapping[str, tuple[str, ...]], nodes: tuple[FreeSwitch, ...]
) -> dict[str, tuple[str, ...]]:
    """With the only node's name where none is given."""
    names = [node.name for node in nodes]
    for name in folders:
        if name not in names and (name or len(names) > 1):
            example = ", ".join(f'{known} = "/…"' for known in names)
            raise ConfigurationError(
                f"capture.cdr_folder must say which [[freeswitch]] writes where: {{ {example} }}"
            )
    return {name or names[0]: paths for name, paths in folders.items()}


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
    except Wrong as error:
        raise ConfigurationError(f"{where} {error}") from error


def _section(kind: type[T], table: Any, where: str, base: T | None = None) -> T:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where} must be a section")
    parsers = {f.name: f.metadata["parse"] for f in fields(kind)}  # type: ignore[arg-type]
    _known(table, set(parsers) | ({"queues", "poll"} if where == "recall" else set()), f"{where}.")
    values = {key: _value(parsers[key], value, f"{where}.{key}") for key, value in table.items()}
    return replace(base, **values) if base is not None else kind(**values)  # type: ignore[type-var]
