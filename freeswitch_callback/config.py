"""The configuration file: one TOML file, every key with a default, every value checked.

An unknown key is an error that names the nearest known one. Secrets may also stand in a file of their own, in
the environment, or be a systemd credential:

    FREESWITCH_CALLBACK_<NODE>_PASSWORD      $CREDENTIALS_DIRECTORY/<node>.password
    FREESWITCH_CALLBACK_DATABASE_PASSWORD    $CREDENTIALS_DIRECTORY/database.password

Only the command line reads this; everybody else is given values. What each key means stands beside its
parser: `config example` and the documentation are written from there.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from freeswitch_callback.config_values import (
    HOOK_EVENTS,
    Parser,
    Wrong,
    as_address,
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
    as_hook_event,
    as_hours,
    as_length_of_time,
    as_links,
    as_list_of,
    as_names,
    as_network,
    as_number,
    as_one_of,
    as_prefix,
    as_retry,
    as_ring_time,
    as_text,
    as_type_of_number,
    as_url,
    as_whole,
    as_yes_or_no,
    as_zone,
    as_zones,
    places_in,
)
from freeswitch_callback.core.capture import CaptureRules, Direct
from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Accept, Mode
from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.core.hours import Window
from freeswitch_callback.core.numbers import TYPES, NumberRules
from freeswitch_callback.errors import ConfigurationError

STOCK_PASSWORD = "ClueCon"

T = TypeVar("T")


def _key(
    parse: Parser,
    default: Any = MISSING,
    means: str = "",
    *,
    factory: Any = MISSING,
    example: str | None = None,
) -> Any:
    """A key of the file. `means`: what it is, with its unit, for people; `example`: a value as TOML, of a key
    that is not set unless somebody does."""
    metadata = {"parse": parse, "means": means, "example": example}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where missed calls and recalls are kept: a file of SQLite's, or PostgreSQL. Read at the start only."""

    url: str = _key(
        as_text,
        "sqlite:///var/lib/freeswitch-callback/callback.db",
        "sqlite:///absolute/path or postgresql://user@host/database. PostgreSQL is for several engines, and "
        "takes libpq's options, as in postgresql:///callback?host=/run/postgresql.",
    )
    password: str | None = _key(
        as_text,
        None,
        "PostgreSQL's. Better not here: the variable FREESWITCH_CALLBACK_DATABASE_PASSWORD and the systemd "
        "credential database.password are read too, in this order: the variable, password_file, the "
        "credential, this key.",
        example='"…"',
    )
    password_file: str | None = _key(
        as_text,
        None,
        "A file with nothing in it but the password.",
        example='"/etc/freeswitch-callback/database.password"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSwitch:
    """A FreeSWITCH, by its Event Socket. One such section for each server. Read at the start only."""

    name: str = _key(
        as_text, "fs1", "What it is called here and on record: letters, digits, '.', '_', '-'. Each its own."
    )
    host: str = _key(as_text, "127.0.0.1", "Its name or address.")
    port: int = _key(as_whole(1, 65535), 8021, "The port of mod_event_socket.")
    password: str | None = _key(
        as_text,
        None,
        "The one in event_socket.conf.xml; needed. ClueCon, with which FreeSWITCH ships, is refused unless "
        "the host is this machine. Better not here: the variable FREESWITCH_CALLBACK_<NAME>_PASSWORD and the "
        "systemd credential <name>.password are read too, in this order: the variable, password_file, the "
        "credential, this key.",
        example='"…"',
    )
    password_file: str | None = _key(
        as_text,
        None,
        "A file with nothing in it but the password.",
        example='"/etc/freeswitch-callback/fs1.password"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Which calls are recorded when nobody served them."""

    queues: tuple[str, ...] = _key(
        as_list_of(as_text), ("*",), "The queues whose callers are looked after, as patterns: support@*."
    )
    direct: tuple[Direct, ...] = _key(
        as_list_of(as_direct),
        (),
        "Calls straight to extensions: the dialplan's context, a regular expression for the number dialled, "
        "and the queue whose agents call back.",
        example='[{ context = "default", destination = "^10\\\\d\\\\d$", queue = "support@default" }]',
    )
    called_number: tuple[str, ...] = _key(
        as_list_of(as_text),
        ("variable_sip_req_user", "Caller-Destination-Number"),
        "The headers of an event that tell the number dialled; the first that is set.",
    )
    min_wait: float = _key(
        as_duration, 3.0, "Who gives up sooner is recorded, and not called back. A length of time."
    )
    variables: tuple[str, ...] = _key(
        as_list_of(as_text),
        (),
        "Channel variables that are kept with the call, in extra.",
        example='["language", "crm_id"]',
    )
    hook_queue: str | None = _key(
        as_text,
        None,
        "Whose agents call back what the dialplan reports without a queue.",
        example='"support@default"',
    )
    spool: str | None = _key(
        as_text,
        None,
        "The folder for what happens while the database is away. Unless named: beside the file of SQLite, or "
        "spool in the service's state directory. Read at the start only.",
        example='"/var/lib/freeswitch-callback/spool"',
    )
    cdr_folder: Mapping[str, tuple[str, ...]] = _key(
        as_folders,
        factory=dict,
        means="Where mod_json_cdr writes: watched for calls whose events were lost. A folder, a list of them "
        '(its err-log-dir too), or by server: { fs1 = "/…", fs2 = ["/…"] }.',
        example='"/var/log/freeswitch/json_cdr"',
    )

    def rules(self) -> CaptureRules:
        return CaptureRules(self.queues, self.direct, self.called_number, self.variables, self.hook_queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Whom the engine may call. What is not allowed is recorded with the reason, and not called."""

    default_region: str = _key(
        as_country, "US", "The country, by ISO 3166, of numbers that come without one."
    )
    allow: tuple[str, ...] = _key(
        as_list_of(as_country), ("US",), "The countries that may be called; all others are refused."
    )
    types: tuple[str, ...] = _key(
        as_list_of(as_type_of_number),
        tuple(sorted(NumberRules().types)),
        f"The types of numbers that may be called, of {', '.join(TYPES)}.",
    )
    allow_prefixes: tuple[str, ...] = _key(
        as_list_of(as_prefix),
        (),
        "How numbers begin that may be called whatever their country and type. Of these and deny_prefixes, "
        "the longest that fits decides.",
        example='["+881"]',
    )
    deny_prefixes: tuple[str, ...] = _key(
        as_list_of(as_prefix), (), "How numbers begin that may not be called.", example='["+1900"]'
    )
    own: tuple[str, ...] = _key(
        as_list_of(as_number), (), "Your own numbers, in E.164: never called.", example='["+12025559999"]'
    )
    shared: tuple[str, ...] = _key(
        as_list_of(as_number),
        (),
        "Numbers of whole companies: a recall to them is not closed because somebody else there was served.",
        example='["+12025550000"]',
    )
    extensions: tuple[re.Pattern[str], ...] = _key(
        as_list_of(as_expression),
        (),
        "What numbers of the house look like, who are called back too: regular expressions for all of it.",
        example="['1[0-9]{3}']",
    )
    extension_dial_string: str = _key(
        as_dial_string, "user/{number}", "Where a number of the house is dialled."
    )
    zones: tuple[tuple[str, str], ...] = _key(
        as_zones,
        (),
        "The time zone to go by for a country whose numbers do not tell which of many they are in.",
        example='{ RU = "Europe/Moscow" }',
    )

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

    per_number: int = _key(as_whole(0, 1000), 5, "Recalls to one number within 24 hours.")
    per_prefix: int = _key(as_whole(0, 1_000_000), 100, "Recalls to one prefix within an hour.")
    per_minute: int = _key(as_whole(0, 1_000_000), 0, "Recalls in all within a minute.")
    breaker: Mapping[str, Any] = _key(
        as_breaker,
        factory=lambda: as_breaker({}),
        means="After so many recalls to one prefix within this time, all to it stop until a person has "
        "looked: `breaker reset`.",
    )
    prefix_hides: int = _key(
        as_whole(0, 10), 4, "A prefix is a number without its last digits: so many of them."
    )

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

    mode: Mode = _key(
        as_one_of(Mode),
        Mode.AGENT_FIRST,
        "Who is called first: agent-first, client-first; or queue: the client is called, and waits in the "
        "queue, which picks the agent.",
    )
    dial_string: str = _key(
        as_dial_string, "sofia/gateway/main/{number}", "Where clients are dialled: your gateway."
    )
    caller_id_number: str = _key(
        as_caller_id, "", "The number that clients see; `run` needs it.", example='"+12025559999"'
    )
    connect: str = _key(
        as_extension,
        "",
        "An extension of the dialplan that recalls go through, perhaps with its context behind a colon.",
        example='"callback_connect"',
    )
    attempts: int = _key(
        as_whole(1, 100), 3, "How often a client is tried. Only what rang the client's phone counts."
    )
    retry: Mapping[str, float] = _key(
        as_retry,
        factory=lambda: as_retry({}),
        means="How long until the next try, by what became of the last; each later one growth times as long "
        "(1 to 10), give or take this part of it (jitter, 0 to 1).",
    )
    expire: float = _key(
        as_length_of_time,
        86400.0,
        "How long a recall may wait, in calling hours: the night and the week-end do not count.",
    )
    ring_timeout: float = _key(as_ring_time, 30.0, "How long a phone rings, from 1s to 10m.")
    min_talk: float = _key(
        as_duration,
        10.0,
        "What lasts less was an answering machine, or nobody was there: it is tried again.",
    )
    agent_rest: float = _key(
        as_duration, 60.0, "How long an agent who missed or declined a recall gets none, at least 30s."
    )
    accept: Accept = _key(
        as_one_of(Accept),
        Accept.PHONE,
        "By what an agent takes a recall: phone, which rings, or page: nothing is dialled before they have "
        "said so there. Not in mode queue.",
    )
    accept_within: float = _key(
        as_length_of_time, 20.0, "How long an agent is asked on the page before another one is."
    )
    hours: tuple[Window, ...] = _key(
        as_hours,
        (Window(frozenset(range(5)), 9 * 60, 20 * 60),),
        'When clients may be called, in their own time zone: one such table, a list of them, or "always".',
    )
    holidays: tuple[str, ...] = _key(
        as_list_of(as_calendar),
        ("client",),
        'Public holidays on which nobody is called: "client" is the client\'s country; or a country or a '
        'part of one, like "DE-BY".',
    )
    zone: str = _key(
        as_zone, "America/New_York", "The time zone of clients whose number does not tell theirs."
    )
    fairness: Fairness = _key(
        as_one_of(Fairness),
        Fairness.LIVE_FIRST,
        "live-first: every caller who waits keeps an agent; by-arrival: a recall has the place of its call; "
        "recall-first.",
    )
    priority: int = _key(as_whole(-1000, 1000), 0, "Of two recalls that are due the higher one goes first.")
    at_once: int = _key(
        as_whole(0, 10_000), 0, "Recalls of one queue that are up at the same time; 0: as agents are free."
    )
    prefer_agent: float = _key(
        as_duration, 0.0, "How long a recall waits for the agent whom the client talked to last."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """The pages and the API. Without this section there are none."""

    enabled: bool = _key(as_yes_or_no, True, "false: as if the section were not there.")
    listen: tuple[str, int] = _key(
        as_address,
        ("127.0.0.1", 8088),
        "The address and the port. Beyond this machine only with TLS, or behind a proxy that does it.",
    )
    tls_certificate: str | None = _key(
        as_text, None, "A certificate with its chain, in PEM.", example='"/etc/ssl/callback.pem"'
    )
    tls_key: str | None = _key(
        as_text, None, "Its key, in PEM, without a password.", example='"/etc/ssl/callback.key"'
    )
    trusted_proxies: tuple[str, ...] = _key(
        as_list_of(as_network), (), "Addresses or networks of the proxies whose word on the client counts."
    )
    session_lifetime: float = _key(as_length_of_time, 12 * 3600.0, "After so long everybody logs in anew.")
    session_idle: float = _key(as_length_of_time, 3600.0, "The same, of who has done nothing meanwhile.")
    open_metrics: bool = _key(as_yes_or_no, False, "true: /metrics is for whoever asks, without a token.")
    agents: Mapping[str, str] = _key(
        as_names, factory=dict, means="What agents are called.", example='{ "1001@default" = "Anna" }'
    )
    queues: Mapping[str, str] = _key(
        as_names, factory=dict, means="What queues are called.", example='{ "support@default" = "Support" }'
    )
    links: Mapping[str, str] = _key(
        as_links,
        factory=dict,
        means="Links on a client's card, by what they are called; in braces number, phone, queue, "
        "caller_name, missed, and what capture.variables names.",
        example='{ CRM = "https://crm.example/search?phone={number}" }',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Whom to tell by HTTP what becomes of calls. One such section for each. Read at the start only."""

    name: str = _key(as_text, "", "What it is called here and on record; each its own.", example='"crm"')
    url: str = _key(as_url, "", "Where it is told; needed.", example='"https://crm.example/hook"')
    secret: str | None = _key(
        as_text,
        None,
        "By it the other side knows that it was us; needed, 16 characters at least. Better in secret_file.",
        example='"…"',
    )
    secret_file: str | None = _key(
        as_text,
        None,
        "A file with nothing in it but the secret.",
        example='"/etc/freeswitch-callback/crm.secret"',
    )
    events: tuple[str, ...] = _key(as_list_of(as_hook_event), HOOK_EVENTS, "What is told.")
    private: bool = _key(
        as_yes_or_no, False, "true: an address within your own network may be told, also in clear."
    )


LINK_PLACES = ("number", "phone", "queue", "caller_name", "missed")
"""What may stand in braces in a link, besides the variables that are kept in `extra`; `missed` is its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    database: Database
    freeswitch: tuple[FreeSwitch, ...]
    capture: Capture
    numbers: Numbers
    caps: Caps
    recall: Recall
    queues: Mapping[str, Recall]
    poll: float = _key(
        as_length_of_time,
        5.0,
        "How often what is due is looked for. The safety net: events are faster. Of [recall] only, not of a "
        "queue.",
    )
    web: Web | None = None
    webhooks: tuple[Webhook, ...] = ()

    def recall_for(self, queue: str) -> Recall:
        return self.queues.get(queue, self.recall)


SECTIONS: Mapping[str, type[Any]] = {
    "database": Database,
    "freeswitch": FreeSwitch,
    "capture": Capture,
    "numbers": Numbers,
    "caps": Caps,
    "recall": Recall,
    "web": Web,
    "webhook": Webhook,
}

OPTIONAL = frozenset({"web", "webhook"})
"""Sections that are not there unless somebody writes them."""


def load(path: str | Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read and check a file; `ConfigurationError` says which keys are wrong, where, and what to write: a line
    for each."""
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
        raise ConfigurationError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


def parse(text: str, environ: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration that a TOML text is."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"not TOML: {error}") from error
    noted = Noted()
    _known(data, SECTIONS, "", noted)
    recall_table = _table(data, "recall", noted)
    base = _section(
        Recall, {k: v for k, v in recall_table.items() if k not in ("queues", "poll")}, "recall", noted
    )
    queues = {
        queue: _section(Recall, table, f'recall.queues."{queue}"', noted, base)
        for queue, table in _table(recall_table, "queues", noted, "recall.").items()
    }
    poll = 0.0
    with noted:
        poll = _value(as_length_of_time, recall_table.get("poll", "5s"), "recall.poll")
    nodes = _nodes(data.get("freeswitch", []), environ, noted)
    capture = _section(Capture, _table(data, "capture", noted), "capture", noted)
    with noted:
        capture = replace(capture, cdr_folder=_by_node(capture.cdr_folder, nodes))
    database = _section(Database, _table(data, "database", noted), "database", noted)
    with noted:
        database = _with_password(database, "database", environ)
    numbers = _section(Numbers, _table(data, "numbers", noted), "numbers", noted)
    caps = _section(Caps, _table(data, "caps", noted), "caps", noted)
    web = _web(data, capture.variables, noted)
    webhooks = _webhooks(data.get("webhook", []), noted)
    noted.raise_all()
    return Configuration(
        database=database,
        freeswitch=nodes,
        capture=capture,
        numbers=numbers,
        caps=caps,
        recall=base,
        queues=queues,
        poll=poll,
        web=web,
        webhooks=webhooks,
    )


class Noted:
    """What is wrong with a text, all of it: reading goes on behind a `with` that notes what it was."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _where: object) -> bool:
        if not isinstance(error, ConfigurationError):
            return False
        self._problems.append(str(error))
        return True

    def raise_all(self) -> None:
        if self._problems:
            raise ConfigurationError("\n".join(self._problems))


SHORTEST_SECRET = 16


def _webhooks(tables: Any, noted: Noted) -> tuple[Webhook, ...]:
    hooks: list[Webhook] = []
    with noted:
        if not isinstance(tables, list):
            raise ConfigurationError("webhook must be sections, written [[webhook]]")
        for index, table in enumerate(tables, 1):
            where = f"webhook[{index}]"
            hook = _section(Webhook, table, where, noted)
            with noted:
                hooks.append(_checked_webhook(hook, where, hooks))
    return tuple(hooks)


def _checked_webhook(hook: Webhook, where: str, others: list[Webhook]) -> Webhook:
    for key in ("name", "url", "events"):
        if not getattr(hook, key):
            raise ConfigurationError(f"{where}.{key} is missing")
    if any(hook.name == other.name for other in others):
        raise ConfigurationError(f"{where}.name: {hook.name!r} is there twice; each needs its own")
    if hook.url.startswith("http://") and not hook.private:
        raise ConfigurationError(
            f"{where}.url must begin with https://: numbers and names go there; in clear only within "
            "your own network, with private = true"
        )
    if hook.secret_file is not None:
        try:
            hook = replace(hook, secret=Path(hook.secret_file).read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{where}.secret_file cannot be read: {error}") from error
    if hook.secret is None or len(hook.secret) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"{where}.secret is missing or too short: {SHORTEST_SECRET} characters at least, as "
            "`openssl rand -hex 32` gives them; or name secret_file"
        )
    return hook


def _web(data: Mapping[str, Any], variables: tuple[str, ...], noted: Noted) -> Web | None:
    if "web" not in data:
        return None
    web = _section(Web, _table(data, "web", noted), "web", noted)
    with noted:
        _check_web(web, variables)
    return web if web.enabled else None


def _check_web(web: Web, variables: tuple[str, ...]) -> None:
    if not web.enabled:
        return
    if (web.tls_certificate is None) != (web.tls_key is None):
        missing = "tls_key" if web.tls_key is None else "tls_certificate"
        raise ConfigurationError(f"web.{missing} is missing: a certificate and its key belong together")
    for key in ("tls_certificate", "tls_key"):
        path = getattr(web, key)
        if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise ConfigurationError(f"web.{key}: {path!r} cannot be read; name a file in PEM format")
    host, port = web.listen
    if not _loopback(host) and web.tls_certificate is None and not web.trusted_proxies:
        raise ConfigurationError(
            f'web.listen: "{host}:{port}" is reached by other machines, and passwords would go in clear; '
            "name web.tls_certificate and web.tls_key, or in web.trusted_proxies the proxy that does TLS"
        )
    known = [*LINK_PLACES, *variables]
    for name, template in web.links.items():
        if unknown := [place for place in places_in(template) if place not in known]:
            raise ConfigurationError(
                f'web.links."{name}" has {{{unknown[0]}}}, which no call has; there are {", ".join(known)} '
                "(capture.variables adds some)"
            )


def _nodes(tables: Any, environ: Mapping[str, str], noted: Noted) -> tuple[FreeSwitch, ...]:
    nodes: list[FreeSwitch] = []
    with noted:
        if not isinstance(tables, list) or not tables:
            raise ConfigurationError("freeswitch: name at least one server in a [[freeswitch]] section")
        for index, table in enumerate(tables, 1):
            where = f"freeswitch[{index}]"
            node = _section(FreeSwitch, table, where, noted)
            with noted:
                node = _with_password(node, node.name, environ)
                _check_password(node, where)
            with noted:
                _check_address(node, where, nodes)
            nodes.append(node)
    return tuple(nodes)


def _check_address(node: FreeSwitch, where: str, others: list[FreeSwitch]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", node.name):
        raise ConfigurationError(f"{where}.name must be letters, digits, '.', '_' or '-', not {node.name!r}")
    if any(node.name == other.name for other in others):
        raise ConfigurationError(f"{where}.name: {node.name!r} is there twice; each server needs its own")
    if not re.fullmatch(r"[A-Za-z0-9_:%\[\]]+([.-][A-Za-z0-9_:%\[\]]+)*\.?", node.host):
        raise ConfigurationError(f"{where}.host must be a name or an address, not {node.host!r}")


def _check_password(node: FreeSwitch, where: str) -> None:
    if not node.password:
        raise ConfigurationError(
            f"{where}.password is missing; write it, or password_file, or set {variable_of(node.name)}"
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in node.password):
        raise ConfigurationError(f"{where}.password has a control character in it (a line break?)")
    if node.password == STOCK_PASSWORD and not _loopback(node.host):
        raise ConfigurationError(
            f"{where}.password is the one that FreeSWITCH ships with, and {node.host} is not this "
            "machine: whoever reaches that port owns the switch; change it in event_socket.conf.xml, "
            "and here"
        )


def _by_node(
    folders: Mapping[str, tuple[str, ...]], nodes: tuple[FreeSwitch, ...]
) -> dict[str, tuple[str, ...]]:
    """With the only node's name where none is given."""
    names = [node.name for node in nodes]
    if not names:
        return {}  # that there is no server has been said
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


def variable_of(name: str) -> str:
    """The environment variable of a server's password; `database` is the database's."""
    return f"FREESWITCH_CALLBACK_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_PASSWORD"


def secret_of(section: Any, name: str, environ: Mapping[str, str] = os.environ) -> tuple[str | None, str]:
    """A section's password, and where it stands: environment, file, systemd credential, the key ("")."""
    variable = variable_of(name)
    if (secret := environ.get(variable)) is not None:
        return secret.strip(), f"${variable}"
    path = Path(section.password_file) if section.password_file else None
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    # systemd makes the folder also for a service of which none was found, and then for root alone.
    if path is None and credentials and os.path.exists(f"{credentials}/{name}.password"):
        path = Path(credentials) / f"{name}.password"
    if path is None:
        return section.password, ""
    try:
        return path.read_text("utf-8").strip(), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: the password file {path} cannot be read: {error}") from error


def _with_password(section: Any, name: str, environ: Mapping[str, str]) -> Any:
    return replace(section, password=secret_of(section, name, environ)[0])


def _table(data: Mapping[str, Any], key: str, noted: Noted, where: str = "") -> dict[str, Any]:
    table = data.get(key, {})
    with noted:
        if not isinstance(table, dict):
            raise ConfigurationError(f"{where}{key} must be a section, written [{where}{key}]")
        return table
    return {}


def _known(table: Mapping[str, Any], known: Collection[str], where: str, noted: Noted) -> None:
    for key in (key for key in table if key not in known):
        nearest = difflib.get_close_matches(key, known, 1, 0.5)
        hint = f"did you mean {where}{nearest[0]}?" if nearest else f"there are {', '.join(sorted(known))}"
        with noted:
            raise ConfigurationError(f"{where}{key}: no such key; {hint}")


def _value(parser: Parser, value: Any, where: str) -> Any:
    try:
        return parser(value)
    except Wrong as error:
        raise ConfigurationError(f"{where} {error}") from error


def _section(kind: type[T], table: Any, where: str, noted: Noted, base: T | None = None) -> T:
    """What a table says; where it is wrong, `base` or the default."""
    values = {}
    parsers = {f.name: f.metadata["parse"] for f in fields(kind)}  # type: ignore[arg-type]
    with noted:
        if not isinstance(table, dict):
            raise ConfigurationError(f"{where} must be a section")
        _known(table, set(parsers) | ({"queues", "poll"} if where == "recall" else set()), f"{where}.", noted)
        for key in (key for key in table if key in parsers):
            with noted:
                values[key] = _value(parsers[key], table[key], f"{where}.{key}")
    return replace(base, **values) if base is not None else kind(**values)  # type: ignore[type-var]
