"""The XML dialplan, as far as our own files in `dialplan/` go: extensions whose conditions lead to
applications.

As mod_dialplan_xml does it: the whole of an extension is read *before* any of its applications runs, so what
an application sets can only be asked for behind a `transfer`; except by `inline` ones, which run at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from freeswitch_callback.simulator.channel import Channel

Note = Callable[[str], None]

_EXPANSION = re.compile(r"\\\\|\\\$|\$\{([^{}]*)\}")
_GLOBAL = re.compile(r"\$\$\{([^{}]*)\}")
_GLOBALS = {"recordings_dir": "/var/lib/freeswitch/recordings"}


class Given(str):
    """The argument of an application that is as it is: what a call's own headers have set, not a dialplan."""


class Planned(str):
    """An application's argument out of the dialplan: `${…}` in it is expanded when its turn has come."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Action:
    application: str
    data: Planned
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """Without a `field` it always holds. `leave`: the attribute `break`."""

    field: str
    expression: re.Pattern[str]
    leave: str
    actions: tuple[Action, ...]
    otherwise: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Extension:
    name: str
    goes_on: bool
    conditions: tuple[Condition, ...]


def read(path: Path) -> list[Extension]:
    """The extensions of one file; ParseError or ValueError for what FreeSWITCH would not read."""
    text = _GLOBAL.sub(lambda found: _GLOBALS.get(found[1], ""), path.read_text("utf-8"))
    return [_extension(element) for element in ElementTree.fromstring(text).iter("extension")]


def _extension(element: ElementTree.Element) -> Extension:
    conditions = tuple(_condition(condition) for condition in element.iter("condition"))
    return Extension(element.get("name", ""), element.get("continue") == "true", conditions)


def _condition(element: ElementTree.Element) -> Condition:
    leave = element.get("break", "on-false")
    if leave not in ("on-false", "on-true", "always", "never"):
        raise ValueError(f"break={leave!r}")
    return Condition(
        element.get("field", ""),
        re.compile(element.get("expression", "")),
        leave,
        tuple(_actions(element, "action")),
        tuple(_actions(element, "anti-action")),
    )


def _actions(element: ElementTree.Element, kind: str) -> Iterable[Action]:
    for action in element.iter(kind):
        data = Planned(action.get("data", ""))
        yield Action(action.attrib["application"], data, action.get("inline") == "true")


def hunt(
    extensions: Sequence[Extension], leg: Channel, destination: str, note: Note
) -> list[tuple[str, str]] | None:
    """What a leg does that comes to `destination`; None if no extension is about it."""
    found: list[tuple[str, str]] | None = None
    for extension in extensions:
        actions = _chosen(extension, leg, destination, note)
        if actions is None:
            continue
        found = (found or []) + [(action.application, action.data) for action in actions]
        if not extension.goes_on:
            break
    return found


def _chosen(extension: Extension, leg: Channel, destination: str, note: Note) -> list[Action] | None:
    chosen: list[Action] = []
    holds = False
    for condition in extension.conditions:
        holds = not condition.field or bool(
            condition.expression.search(_field(condition.field, leg, destination, note))
        )
        actions = condition.actions if holds else condition.otherwise
        for action in actions:
            if action.inline and action.application == "set":
                name, _, value = expand(action.data, leg, note).partition("=")
                leg.variables[name] = value
        chosen += actions
        if condition.leave == "always" or condition.leave == ("on-true" if holds else "on-false"):
            break
    return chosen if holds or chosen else None


def _field(field: str, leg: Channel, destination: str, note: Note) -> str:
    if "${" in field:
        return expand(field, leg, note)
    return destination if field == "destination_number" else _variable(field, leg)


def _variable(name: str, leg: Channel) -> str:
    who = leg.profile
    profile = {
        "uuid": leg.uuid,
        "context": who.context,
        "destination_number": who.destination,
        "caller_id_number": who.cid_number,
        "caller_id_name": who.cid_name,
    }
    return leg.variables.get(name, profile.get(name, ""))


def expand(text: str, leg: Channel, note: Note) -> str:
    """`${…}` by the leg's variables, and one backslash taken away in front of `$` or another one. A
    `${command(…)}` is run by a FreeSWITCH, and noted here."""

    def one(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][1]
        if "(" in found[1]:
            note(f"expansion {found[1]}")
            return ""
        return _variable(found[1], leg)

    return _EXPANSION.sub(one, text)
