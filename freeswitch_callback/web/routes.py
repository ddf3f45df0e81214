"""A route of the API: what it is called, who may, what it takes, what it does and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peewee

from freeswitch_callback.core.access import Access, Scope
from freeswitch_callback.ledger import models
from freeswitch_callback.web.fields import Field, Kind, Schema
from freeswitch_callback.web.site import Site

Given = Mapping[str, Any]
Run = Callable[[Site, Access, Given], Any]


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has the names of `path_fields` in braces; `run` is given all that was said by name. `gives` is
    the schema of what it returns. A `stream` returns a response of its own."""

    method: str
    path: str
    run: Run
    summary: str
    scope: Scope = Scope.READ
    path_fields: Mapping[str, Kind] = field(default_factory=dict)
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] = ()
    gives: Schema = field(default_factory=dict)
    media: str = "application/json"
    status: int = 200


# --- schemas -------------------------------------------------------------------------------------------


def record(properties: Mapping[str, Schema]) -> Schema:
    """An object that always has all of these."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
OBJECT: Schema = {"type": "object"}
COUNTS: Schema = {"type": "object", "additionalProperties": WHOLE}


def or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_OF_COLUMN: tuple[tuple[type[peewee.Field], Schema], ...] = (
    (models.Utc, TIME),
    (models.Json, OBJECT),
    (peewee.BooleanField, FLAG),
    (peewee.IntegerField, WHOLE),
    (models.Text, TEXT),
)


def of_table(table: type[models.Table], *names: str) -> dict[str, Schema]:
    """The columns of a table (these, or all) as they are shown."""
    found = {}
    for name in names or table._meta.sorted_field_names:
        column = table._meta.fields[name]
        schema = next(schema for kind, schema in _OF_COLUMN if isinstance(column, kind))
        found[name] = or_null(schema) if column.null else schema
    return found
