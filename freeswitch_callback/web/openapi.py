"""The OpenAPI 3.1 document of the API, made from its table of routes: it cannot go stale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from freeswitch_callback import __version__
from freeswitch_callback.web.fields import Field, Schema
from freeswitch_callback.web.problems import TYPE
from freeswitch_callback.web.routes import TEXT, WHOLE, Route, record

PROBLEM = record({"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT})

_REFUSALS = {
    "400": "What was asked for makes no sense; `detail` says what to write.",
    "401": "No token, or one that does not let in.",
    "403": "The token's scope, or its queues, do not include this.",
    "404": "There is no such thing.",
    "408": "The request came in too slowly.",
    "413": "The request is too large.",
    "415": "The body is to be application/json.",
    "503": "The database is out of reach; try again.",
}


def document(routes: Iterable[Route], schemas: Mapping[str, Schema], prefix: str) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "freeswitch-callback",
            "version": __version__,
            "description": "Who was missed, and what becomes of it. The same as at the command line.",
        },
        "servers": [{"url": prefix}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.path.strip('/').translate(_IN_NAMES)}",
        "summary": route.summary,
        "description": f"Needs the scope {route.scope}.",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": kind.schema}
            for name, kind in route.path_fields.items()
        ]
        + [
            {
                "name": field.name, "in": "query", "description": field.help, "required": field.required,
                "schema": _with_default(field), "explode": False,
            }
            for field in route.query
        ],
        "responses": {
            str(route.status): {
                "description": "Done.",
                "content": {route.media: {"schema": route.gives}},
            },
            **{
                status: {
                    "description": text,
                    "content": {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for status, text in _REFUSALS.items()
            },
        },
    }  # fmt: skip
    if route.method == "POST":
        operation["requestBody"] = {
            "required": any(field.required for field in route.body),
            "content": {"application/json": {"schema": _body(route.body)}},
        }
    return operation


_IN_NAMES = str.maketrans({"/": "_", "{": None, "}": None, ".": "_"})


def _body(fields: Iterable[Field]) -> Schema:
    return {
        "type": "object",
        "properties": {field.name: _with_default(field) | {"description": field.help} for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }


def _with_default(field: Field) -> Schema:
    if field.default is None:
        return field.kind.schema
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return field.kind.schema | {"default": default}
