"""Engines and commands beside each other on one PostgreSQL."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freeswitch_callback.core.facts import Claim, Mode
from freeswitch_callback.simulator import Answers, Simulator
from tests.acceptance.conftest import CLIENT, OURS, SUPPORT, House
from tests.postgres import TEMPLATE, server

WITH_A_SHORT_LEASE = """
import sys
from dataclasses import replace
from freeswitch_callback import __main__ as program
from freeswitch_callback.cli import service

lease, configured = float(sys.argv.pop(1)), service.engine_rules
service.engine_rules = lambda configuration: replace(configured(configuration), lease=lease)
program.main()
"""
"""`freeswitch-callback run`, with what no configuration names."""


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


def test_whoever_was_quicker_has_the_first_try_and_when_it_is_gone_the_other_calls(
    house: House, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = [f"{1100 + number}@default" for number in range(12)]
    for agent in agents:
        sim.add_agent(agent, status="Logged Out", behaviour=Answers(after=0.02))
        sim.add_tier(SUPPORT, agent)
    engines = [house.engine(), house.engine()]
    had: dict[str, list[bool]] = {engine.name: [] for engine in engines}
    for engine in engines:
        monkeypatch.setattr(engine.ledger, "claim", _noting(engine.ledger.claim, had[engine.name]))

    def a_call_is_missed_and_recalled_by(agent: str) -> None:
        client = f"+1202555{agent[:4]}"
        sim.client(client, Answers(after=0.02, talks=0.05))
        house.missed(phone=client)
        house.free(agent)
        house.row(phone=client, state="closed")
        sim.set_status(agent, "Logged Out")

    for agent in agents[:-1]:
        a_call_is_missed_and_recalled_by(agent)
    tries = [claimed for engine in engines for claimed in had[engine.name]]
    assert tries.count(True) == len(agents) - 1
    assert tries.count(False) <= 3, "an engine that lost lets the other go first"
    house.stop(max(engines, key=lambda engine: had[engine.name].count(True)))
    a_call_is_missed_and_recalled_by(agents[-1])
    assert len(sim.dialled) == len(agents)


def _noting(claim: Callable[..., Any], had: list[bool]) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        claimed = claim(*arguments, **options)
        had.append(claimed is not None)
        return claimed

    return noted


def test_what_a_killed_engine_had_up_is_followed_once_its_lease_has_ended(
    house: House, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has just looked, at a time when there was nothing; its next look of its own is a minute
    away."""
    lease = 2.0
    sim.client(CLIENT, Answers(after=0.02, talks=600.0))
    other = house.engine()
    monkeypatch.setattr(other, "_round", lambda: house.poll)  # it begins none itself
    path = tmp_path / "callback.toml"
    path.write_text(
        f'database.url = "{house.url}"\nfreeswitch = [{{ port = {sim.port}, password = "{sim.password}" }}]\n'
        f'recall.caller_id_number = "{OURS}"\nrecall.hours = "always"\nrecall.poll = "1s"\n'
        'recall.dial_string = "sofia/gateway/main/{number}"\n'
        'numbers = { default_region = "US", allow = ["US"] }\n'
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", WITH_A_SHORT_LEASE, str(lease), "--config", str(path), "run"],
        env=os.environ | {"STATE_DIRECTORY": str(tmp_path)},
    )
    try:
        house.free()
        house.missed()
        house.row(state="connected")
        [held] = house.ledger.held()
        assert held.claim.engine != other.name
    finally:
        killed.kill()
        killed.wait()
    killed_at = time.monotonic()
    house.until(lambda: house.ledger.held(engine=other.name), timeout=lease + 3.0)
    assert time.monotonic() - killed_at > lease / 3, "a lease that runs is nobody else's"
    house.hang_up_the_recall()
    house.row(closed_as="recalled")
    assert len(sim.dialled) == 1


def test_a_lease_that_ends_while_freeswitch_is_away_makes_nobody_restless(
    house: House, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    recall = house.ledger.show(house.missed())["recall"]["id"]
    engine = house.engine()
    claim = house.ledger.claim(
        recall, engine="gone", lease=1.0, node="fs1", agent=None, mode=Mode.QUEUE, call_uuid="c", job_uuid="j"
    )
    assert isinstance(claim, Claim)
    assert house.ledger.dialling(claim, "core")
    site = engine.sites[0]
    house.until(lambda: site._lease_ends_at < math.inf)
    sim.refuse_connections()
    sim.cut_connections()
    house.until(lambda: not site.node.up.is_set())
    turns: list[float] = []
    monkeypatch.setattr(
        engine.loops._loops["look at fs1"], "turns", lambda _within: turns.append(time.monotonic())
    )
    house.until(lambda: len(turns) >= 4)
    assert turns[3] - turns[1] > 1.5 * house.poll
