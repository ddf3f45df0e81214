"""Figures for Prometheus."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from freeswitch_callback.core.access import Scope
from freeswitch_callback.engine.figures import MOST_QUEUES, REACTION, Figures, Histogram
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.web import metrics
from freeswitch_callback.web.site import Site
from tests.hostile import TEXTS
from tests.integration.web.test_api import SUPPORT, missed
from tests.web import Program, program, with_settings

Samples = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FRESH", 0.0)


def read(site: Site) -> Samples:
    response = program(site, Scope.READ).http.get("/metrics", headers=program(site, Scope.READ).headers)
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    found: Samples = {}
    for family in families(response.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_what_an_engine_has_done(site: Site):
    figures = site.live.figures
    figures.count_missed(SUPPORT, "abandoned")
    figures.count_missed(SUPPORT, "abandoned")
    figures.count_missed(None, "busy")
    figures.closed["recalled"] += 1
    figures.events["fs1"] += 7
    figures.reaction.add(0.03)
    figures.reaction.add(400.0)
    found = read(site)
    assert found["freeswitch_callback_missed_total"] == {(SUPPORT, "abandoned"): 2.0, ("", "busy"): 1.0}
    assert found["freeswitch_callback_recalls_closed_total"] == {("recalled",): 1.0}
    assert found["freeswitch_callback_events_total"] == {("fs1",): 7.0}
    assert found["freeswitch_callback_reaction_seconds_bucket"][("0.025",)] == 0
    assert found["freeswitch_callback_reaction_seconds_bucket"][("0.05",)] == 1
    assert found["freeswitch_callback_reaction_seconds_bucket"][("30.0",)] == 1
    assert found["freeswitch_callback_reaction_seconds_bucket"][("+Inf",)] == 2
    assert found["freeswitch_callback_reaction_seconds_count"] == {(): 2.0}
    assert found["freeswitch_callback_reaction_seconds_sum"] == {(): pytest.approx(400.03)}


def test_what_is_open_and_who_is_there(site: Site):
    missed(site.ledger, 1)
    missed(site.ledger, 2, phone="anonymous")
    found = read(site)
    assert found["freeswitch_callback_recalls"][("waiting",)] == 1
    assert found["freeswitch_callback_recalls"][("unknown",)] == 0
    assert found["freeswitch_callback_node_up"] == {("fs1",): 0.0}
    assert found["freeswitch_callback_database_up"] == {(): 1.0}


def test_a_database_that_is_away_is_a_figure(site: Site, monkeypatch: pytest.MonkeyPatch):
    def away(*_args: object) -> None:
        raise DatabaseUnreachable("away")

    monkeypatch.setattr(site.ledger, "open_by_state", away)
    found = read(site)
    assert found["freeswitch_callback_database_up"] == {(): 0.0}
    assert "freeswitch_callback_recalls" not in found


def test_no_stranger_is_a_label(site: Site):
    for number, text in enumerate(TEXTS):
        missed(site.ledger, number, caller_name=f"stranger {text}", phone=f"stranger {text}")
    asks = program(site)
    assert "stranger" not in asks.http.get("/metrics", headers=asks.headers).text


def test_labels_have_a_bound():
    figures = Figures()
    for number in range(MOST_QUEUES + 50):
        figures.count_missed(f"queue{number}", "busy")
    assert len(figures.missed) == MOST_QUEUES + 1
    assert figures.missed["other", "busy"] == 50


def test_a_histogram_counts_what_is_on_a_bound_below_it():
    histogram = Histogram(REACTION)
    histogram.add(0.01)
    histogram.add(-1.0)
    assert next(iter(histogram.buckets())) == ("0.01", 2)


def test_one_answer_does_for_all_who_ask(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "FRESH", 60.0)
    asks = program(site)
    first = asks.http.get("/metrics", headers=asks.headers).text
    site.live.figures.events["fs1"] += 1
    assert asks.http.get("/metrics", headers=asks.headers).text == first


def test_who_may_read_them(site: Site):
    limited = program(site, Scope.ADMIN, "*@tenant")
    assert Program(site, None).http.get("/metrics").status_code == 401
    assert limited.http.get("/metrics", headers=limited.headers).status_code == 403
    with_settings(site, open_metrics=True)
    assert Program(site, None).http.get("/metrics").status_code == 200


def test_well_and_ready(site: Site, monkeypatch: pytest.MonkeyPatch):
    stranger = Program(site, None).http
    assert stranger.get("/healthz").status_code == 200
    assert stranger.get("/readyz").status_code == 503
    monkeypatch.setattr(type(site.live), "ready", True)
    assert stranger.get("/readyz").status_code == 200
    monkeypatch.setattr(type(site.live), "database", False)
    assert stranger.get("/readyz").status_code == 503


def test_the_dashboard_and_the_documentation_name_what_there_is(site: Site):
    figures = site.live.figures
    figures.count_missed(SUPPORT, "abandoned")
    for counts in (figures.closed, figures.events, figures.outcomes):
        counts["x"] += 1
    asks = program(site)
    text = asks.http.get("/metrics", headers=asks.headers).text
    names = {family.name for family in families(text)}
    samples = {sample.name for family in families(text) for sample in family.samples} | names | {
        "freeswitch_callback_agents", "freeswitch_callback_queue_callers", "freeswitch_callback_alarms",
    }  # fmt: skip
    dashboard = json.loads(Path("docs/grafana.json").read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {
        name
        for expression in expressions
        for name in re.findall(r"\b(?:freeswitch_callback|process)_\w+", expression)
    }
    assert used - samples == set()
    documented = re.findall(r"``(\w+)``", Path("docs/api.rst").read_text("utf-8"))
    ours = {name.removeprefix("freeswitch_callback_") for name in names if name.startswith("freeswitch_")}
    assert {name for name in ours if name not in documented and f"{name}_total" not in documented} == set()
