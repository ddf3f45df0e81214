"""People as the stories have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from freeswitch_callback.ledger.people import Person
from tests.integration.ledger.given import NOON


def person(**said: Any) -> Person:
    anna = Person(
        id=1, name="anna", password="", role="operator", agent="1001@default", queues=None, made_at=NOON
    )
    return replace(anna, **said)
