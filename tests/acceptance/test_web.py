"""The API of an engine at work, by HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest

from freeswitch_callback import cli
from freeswitch_callback.cli.website import pages_process
from freeswitch_callback.cli.website import served as served_by
from freeswitch_callback.config import Configuration, load
from freeswitch_callback.core.access import Scope
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import accounts
from tests.acceptance.conftest import CLIENT, SUPPORT, House, Shell

AGENT = "1001@default"


class Served:
    """A running site, and a token that may do everything."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def __call__(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)


def port_free() -> int:
    from gevent import socket

    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def configured(shell: Shell) -> Configuration:
    """With a section [web]."""
    shell.path.write_text(shell.path.read_text() + f'[web]\nlisten = "127.0.0.1:{port_free()}"\n')
    return load(shell.path)


def serving(configuration: Configuration, engine: Engine) -> Iterator[Served]:
    web = configuration.web
    assert web is not None
    with served_by(pages_process(configuration, web, engine)) as pages:
        token = accounts.add_token(engine.ledger, "test", Scope.ADMIN, "root")
        yield Served(f"{pages.address}/api/v1", token)


@pytest.fixture
def engine(house: House) -> Engine:
    return house.engine()


@pytest.fixture
def served(shell: Shell, engine: Engine) -> Iterator[Served]:
    yield from serving(configured(shell), engine)


def test_the_api_shows_the_agents_and_gates_as_the_command_line_does(
    served: Served, shell: Shell, house: House
):
    house.missed()
    house.until(lambda: served("/state")["nodes"][0]["up"])
    assert served("/agents")["items"] == shell.json("agents")
    why, [told] = served("/missed/1/why"), shell.json("why", 1)
    assert [gate["gate"] for gate in why["gates"]] == [gate["gate"] for gate in told["gates"]]
    assert {gate["gate"]: gate["open"] for gate in why["gates"]}["agent"] is False
    state = served("/state")
    assert (state["ready"], state["recalls"], state["alarms"]) == (True, {"waiting": 1}, [])


def test_who_is_added_by_the_api_is_called_at_once(served: Served, house: House, sim: Any):
    house.free()
    house.until(lambda: served("/agents")["items"][0]["status"] == "Available")
    assert served("/missed", {"number": CLIENT, "queue": SUPPORT})["id"] == 1
    house.row(state="closed", closed_as="recalled")
    journal = served("/missed/1")["journal"]
    assert [entry["what"] for entry in journal] == ["opened", "claimed", "dialling", "connected", "closed"]


def test_what_an_engine_does_is_counted(served: Served, engine: Engine, house: House, sim: Any):
    house.gave_up()
    house.free()
    house.row(state="closed", closed_as="recalled")
    figures = engine.figures
    house.until(lambda: figures.outcomes and figures.closed["recalled"])
    assert figures.missed == {(SUPPORT, "abandoned"): 1}
    assert (figures.closed, figures.outcomes) == ({"recalled": 1, "expired": 0}, {"connected": 1})
    assert figures.events["fs1"] > 5
    for histogram in (figures.time_to_recall, figures.reaction):
        assert list(histogram.buckets())[-1] == ("+Inf", 1)
    assert 0 < figures.reaction.sum < 5


def test_run_serves_what_is_configured_and_ends(shell: Shell, house: House, sim: Any):
    web = configured(shell).web
    assert web is not None
    with closing(Ledger(house.url)) as ledger:
        token = accounts.add_token(ledger, "test", Scope.READ, "root")
    served = Served(f"http://127.0.0.1:{web.listen[1]}/api/v1", token)
    engines: list[Engine] = []
    with pytest.MonkeyPatch.context() as patched:
        run = Engine.run
        patched.setattr(Engine, "run", lambda self: (engines.append(self), run(self))[1])
        running = gevent.spawn(cli.main, ["--config", str(shell.path), "run", "--log-level", "error"])

        def up() -> bool:
            try:
                return bool(served("/state")["ready"])
            except (urllib.error.URLError, ConnectionError):
                return False

        house.until(up)
        engines[0].stop()
        assert running.get(timeout=10) == 0
        assert not up()


def test_an_address_that_is_taken_ends_run_at_once(shell: Shell, served: Served):
    status, _, err = shell("run", "--log-level", "error")
    assert status == 3
    assert "web.listen: cannot listen on 127.0.0.1:" in err
