"""What a request may say: each kind of value reads itself, from a query or from JSON, and describes itself.

All raise `UsageError`, whatever they are given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from freeswitch_callback.errors import UsageError

Schema = dict[str, Any]

LARGEST = 2**63 - 1
MOST = 1000
"""Entries of a list."""


class Kind(Protocol):
    @property
    def schema(self) -> Schema:
        """As JSON Schema has it."""

    def of_text(self, text: str) -> Any:
        """The value that a query has."""

    def of_json(self, value: Any) -> Any:
        """The value that a body has."""


@dataclass(frozen=True, slots=True)
class Text:
    longest: int = 255
    shortest: int = 0
    example: str = ""

    @property
    def schema(self) -> Schema:
        shortest = {"minLength": self.shortest} if self.shortest else {}
        examples = {"examples": [self.example]} if self.example else {}
        return {"type": "string", "maxLength": self.longest} | shortest | examples

    def of_text(self, text: str) -> str:
        if not self.shortest <= len(text) <= self.longest:
            raise UsageError(f"must have from {self.shortest} to {self.longest} characters")
        return text

    def of_json(self, value: Any) -> str:
        if not isinstance(value, str):
            raise UsageError("must be a text")
        return self.of_text(value)


@dataclass(frozen=True, slots=True)
class OneOf:
    words: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.words)}

    def of_text(self, text: str) -> str:
        return self.of_json(text)

    def of_json(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise UsageError(f"must be one of {', '.join(self.words)}")
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    low: int = 1
    high: int = LARGEST

    @property
    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def of_text(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise UsageError(f"must be a whole number from {self.low} to {self.high}")
        return self.of_json(int(text))

    def of_json(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise UsageError(f"must be a whole number from {self.low} to {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class YesOrNo:
    @property
    def schema(self) -> Schema:
        return {"type": "boolean"}

    def of_text(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise UsageError("must be true or false")
        return text == "true"

    def of_json(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise UsageError("must be true or false")
        return value


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Kind

    @property
    def schema(self) -> Schema:
        return {"type": "array", "items": self.item.schema, "maxItems": MOST}

    def of_text(self, text: str) -> tuple[Any, ...]:
        return self.of_json(text.split(","))

    def of_json(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > MOST:
            raise UsageError(f"must be a list of at most {MOST}")
        return tuple(self.item.of_json(each) for each in value)


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that a request may say, and what is taken where it says nothing."""

    name: str
    kind: Kind
    help: str
    required: bool = False
    default: Any = None


def of_query(fields: Sequence[Field], given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """By name, what a query says; each at most once, and nothing else."""
    known = {field.name: field for field in fields}
    _known(given, known)
    for name, values in given.items():
        if len(values) > 1:
            raise UsageError(f"{name}: is there {len(values)} times")
    return _read(
        fields, {name: known[name].kind.of_text for name in given}, {n: v[0] for n, v in given.items()}
    )


def of_body(fields: Sequence[Field], raw: bytes) -> dict[str, Any]:
    """By name, what a JSON object says."""
    try:
        given = json.loads(raw or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is no JSON") from error
    if not isinstance(given, dict):
        raise UsageError("the body must be a JSON object")
    known = {field.name: field for field in fields}
    _known(given, known)
    said = {name: value for name, value in given.items() if value is not None}
    return _read(fields, {name: known[name].kind.of_json for name in said}, said)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _known(given: Iterable[str], known: Mapping[str, Field]) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"{name[:60]!r}: no such field; there are {', '.join(known) or 'none'}")


def _read(fields: Sequence[Field], readers: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields:
        if field.name not in said:
            if field.required:
                raise UsageError(f"{field.name} is missing: {field.help}")
            values[field.name] = field.default
            continue
        try:
            values[field.name] = readers[field.name](said[field.name])
        except UsageError as error:
            raise UsageError(f"{field.name}: {error}") from error
    return values
