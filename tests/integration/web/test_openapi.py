"""The OpenAPI document is the API: what it allows is answered as it says, never by an error of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from freeswitch_callback.ledger import Ledger
from freeswitch_callback.web import api, app
from freeswitch_callback.web.site import Site
from tests.integration.web.test_api import missed
from tests.web import API, Program, program, site_of, token

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip
OPERATIONS = [(route.method, route.path) for route in api.ROUTES]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with closing(Ledger(f"sqlite://{tmp_path_factory.mktemp('openapi')}/callback.db")) as ledger:
        ledger.migrate()
        for number in range(5):
            missed(ledger, number, extra={"crm_id": "7"})
        yield site_of(ledger)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_document_allows_is_answered_as_it_says(
    filled: Site, method: str, path: str, mode: GenerationMode
):
    made = app.make(filled)
    authorization = {"Authorization": f"Bearer {token(filled.ledger)}"}
    operation = schemathesis.openapi.from_wsgi(f"{API}/openapi.json", made)[path][method]

    @seed(1)
    @settings(
        max_examples=8, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(headers=authorization, checks=CHECKS)

    check()


def test_the_document_has_every_route_and_the_scope_it_needs(site: Site):
    document = Program(site, None).get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert sorted(operations) == sorted(OPERATIONS)
    assert len({operation["operationId"] for operation in operations.values()}) == len(OPERATIONS)
    for route in api.ROUTES:
        assert f"the scope {route.scope}" in operations[route.method, route.path]["description"]
        assert set(route.path_fields) == set(re.findall(r"\{(\w+)\}", route.path))


def test_every_route_wants_a_token(site: Site):
    stranger = Program(site, None)
    for method, path in OPERATIONS:
        assert stranger(method, path.replace("{id}", "1")).status_code == 401, path
    assert program(site)("OPTIONS", "/missed").status_code == 405


def test_the_documentation_names_every_route():
    text = Path("docs/api.rst").read_text("utf-8")
    for _method, path in OPERATIONS:
        assert f"``{path}``" in text or f"{path}\n" in text, path
