"""What FreeSWITCH reads in `originate` and `bridge` strings, including what an attacker would like it to
read.

The order of its steps is what makes values dangerous, so it is kept: first the command is split at spaces
and its quotes are *removed* (`switch_separate_string`), then `{…}` is split at commas. A quoted value with
a comma is therefore cut (`hook_missed`: the name `Smith, John` arrives as `Smith`), and what follows the
comma is a variable of its own. Nothing dangerous is ever run here: it is noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Note = Callable[[str], None]
Application = tuple[str, str]  # name, argument

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "s": " "}
_RUNS_SOMETHING = re.compile(r"(execute|api|exec|lua|bgapi)_(on|after|before|hangup|reporting|result)")
# Marks that are left in FreeSWITCH's own store are the one thing that a channel may do by itself.
_HARMLESS_HOOK = re.compile(r"(db|hash) insert/[^\s;&|$`]*")
_EXPANSION = re.compile(r"\$\$?\{([^}]*)\}?")


@dataclass(frozen=True, slots=True)
class Destination:
    """One leg to dial: `sofia/internal/1001@127.0.0.1:5090`, with the variables of its `[…]`."""

    endpoint: str
    variables: dict[str, str]


@dataclass(frozen=True, slots=True)
class DialString:
    """`{variables}` for all legs, and the legs: groups one after the other, those of a group at once."""

    variables: dict[str, str]
    groups: tuple[tuple[Destination, ...], ...]


@dataclass(frozen=True, slots=True)
class Originate:
    """A whole `originate` command: what to dial, and what the leg does once it is answered: run
    `applications`, or go to `extension` of the dialplan."""

    dial: DialString
    applications: tuple[Application, ...]
    extension: str = ""
    dialplan: str = ""
    cid_name: str = ""
    cid_number: str = ""
    timeout: float | None = None


class UsageError(ValueError):
    """FreeSWITCH would answer with its usage text."""


def separate(text: str, delimiter: str, limit: int = 1000) -> list[str]:
    """`switch_separate_string`: split at a character outside of single quotes; the quotes go away."""
    if delimiter != " " and "\\" not in text and "'" not in text:
        return [piece.strip(" ") for piece in text.split(delimiter, limit - 1)]
    pieces: list[str] = []
    start, at, quoted = 0, 0, False
    while at < len(text) and len(pieces) < limit - 1:
        character = text[at]
        if character == "\\":
            at += 1
        elif character == "'" and (quoted or "'" in text[at + 1 :]):
            quoted = not quoted
        elif character == delimiter and not quoted:
            pieces.append(text[start:at])
            while delimiter == " " and at + 1 < len(text) and text[at + 1] == " ":
                at += 1
            start = at + 1
        at += 1
    pieces.append(text[start:])
    return [_clean(piece, delimiter) for piece in pieces if piece or delimiter != " "]


def _clean(piece: str, delimiter: str) -> str:
    piece = piece.strip(" ")
    if "\\" not in piece and "'" not in piece:
        return piece
    out: list[str] = []
    at, quoted = 0, False
    while at < len(piece):
        character = piece[at]
        following = piece[at + 1] if at + 1 < len(piece) else ""
        if (
            character == "\\"
            and following
            and (following in "'\"\\" or following == delimiter or following in _ESCAPES)
        ):
            out.append(_ESCAPES.get(following, following))
            at += 2
            continue
        if character == "'" and (quoted or "'" in piece[at + 1 :]):
            quoted = not quoted
        else:
            out.append(character)
        at += 1
    return "".join(out)


def _closing(text: str, opening: str, closing: str) -> int:
    """Where the bracket that `text` begins with is closed; -1: nowhere."""
    depth, escaped = 0, False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == opening:
            depth += 1
        elif character == closing:
            depth -= 1
            if depth == 0:
                return at
    return -1


def _brackets(text: str, pair: str, note: Note) -> tuple[dict[str, str], str]:
    """The variables of the leading `{…}{…}` (or `[…]`, `<…>`) of a string, and the rest of it."""
    variables: dict[str, str] = {}
    while text.startswith(pair[0]):
        end = _closing(text, pair[0], pair[1])
        if end < 0:
            break
        inner, text = text[1:end], text[end + 1 :].lstrip(" ")
        delimiter = ","
        if inner.startswith("^^") and len(inner) > 2:
            delimiter, inner = inner[2], inner[3:]
        for assignment in separate(inner, delimiter):
            name, equals, value = assignment.partition("=")
            if equals and name.strip():
                _assign(variables, name.strip(), value, note)
    return variables, text


def _assign(variables: dict[str, str], name: str, value: str, note: Note) -> None:
    expansions = _EXPANSION.findall(value)
    for expansion in expansions:
        if "(" in expansion:
            note(f"expansion {expansion}")
    if expansions:
        return  # `${…}` in {} is expanded too early, and the whole variable is lost
    if _RUNS_SOMETHING.match(name.removeprefix("nolocal:")) and not _HARMLESS_HOOK.fullmatch(value):
        note(f"{name}={value}")
    variables[name] = value


def parse_dial_string(text: str, note: Note) -> DialString:
    """Read the argument of `bridge`, or the first one of `originate`."""
    variables, rest = _brackets(text.strip(), "<>", note)
    more, rest = _brackets(rest, "{}", note)
    variables |= more
    if ":_:" in rest:
        together: list[Destination] = []
        for part in rest.split(":_:"):
            inner, part = _brackets(part.strip(), "{}", note)
            variables |= {name: value for name, value in inner.items() if name not in variables}
            together.extend(destination for group in _groups(part, note) for destination in group)
        groups: tuple[tuple[Destination, ...], ...] = (tuple(together),)
    else:
        groups = _groups(rest, note)
    for extra in [destination for group in groups for destination in group][1:]:
        note(f"extra leg {extra.endpoint}")
    return DialString(variables, groups)


def _groups(text: str, note: Note) -> tuple[tuple[Destination, ...], ...]:
    return tuple(
        tuple(_destination(one, note) for one in _outside_brackets(group, ",") if one)
        for group in _outside_brackets(text, "|")
        if group
    )


def _outside_brackets(text: str, delimiter: str) -> list[str]:
    pieces, depth, start = [], 0, 0
    for at, character in enumerate(text):
        if character == "[":
            depth += 1
        elif character == "]" and depth:
            depth -= 1
        elif character == delimiter and not depth:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


def _destination(text: str, note: Note) -> Destination:
    variables, endpoint = _brackets(text.strip(), "[]", note)
    return Destination(endpoint, variables)


def parse_originate(text: str, note: Note) -> Originate:
    """Read what follows `originate`.

    Raises UsageError where FreeSWITCH would print its usage.
    """
    arguments = separate(text.strip(), " ", 8)
    if not 2 <= len(arguments) <= 7:
        raise UsageError(text)
    url, target, *others = arguments
    dialplan = others[0] if others and others[0] != "undef" else "XML"
    dial = parse_dial_string(url, note)
    timeout = float(others[4]) if len(others) > 4 and others[4].isdigit() else None
    applications: tuple[Application, ...] = ()
    extension = ""
    if target.startswith("&") and len(target) > 1:
        # A `)` inside the argument ends it: what follows is thrown away.
        name, _, data = target[1:].partition("(")
        applications = ((name, data.partition(")")[0]),)
    elif dialplan.lower() == "inline":
        applications = parse_inline(target)
    else:
        extension = target
    return Originate(
        dial,
        applications,
        extension,
        dialplan if not target.startswith("&") else "",
        others[2] if len(others) > 2 else "",
        others[3] if len(others) > 3 else "",
        timeout,
    )


def parse_inline(text: str) -> tuple[Application, ...]:
    """The inline dialplan: `sleep:1500,hangup:NORMAL_CLEARING`, or `m:;:app:data;app:data`."""
    delimiter = ","
    if text.startswith("m:") and len(text) > 3 and text[3] == ":":
        delimiter, text = text[2], text[4:]
    steps = []
    for step in separate(text, delimiter):
        name, _, data = step.partition(":")
        if name:
            steps.append((name, data))
    return tuple(steps)
