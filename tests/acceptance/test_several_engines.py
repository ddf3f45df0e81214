"""Engines and commands beside each other on one PostgreSQL."""

from __future__ import annotations

import pytest

from freeswitch_callback.simulator import Simulator
from tests.acceptance.conftest import House
from tests.postgres import TEMPLATE, server


@pytest.fixture(params=["postgresql"])
def ledger_url() -> str:
    """On SQLite nobody tells: the poll finds it."""
    return server().url(server().create(template=TEMPLATE))


def test_a_recall_that_another_process_adds_starts_long_before_the_poll(house: House, sim: Simulator) -> None:
    house.poll = 60.0
    engine = house.engine()
    house.free()
    # It has found nothing to do and rests until its poll.
    house.until(lambda: engine._next_look > engine.clock.monotonic() + 30.0)
    missed = house.missed()  # by the house's ledger, not the engine's
    house.until(lambda: house.attempts(missed), timeout=5.0)


def test_of_two_engines_that_are_told_one_calls(house: House, sim: Simulator) -> None:
    house.poll = 60.0
    house.engine()
    house.engine()
    house.free()
    house.missed()
    house.row(state="closed")
    assert len(sim.dialled) == 1
