"""Figures for Prometheus, and whether all is well for who watches the process.

What is counted is counted by the engine as it works; what has to be looked up is looked up every few seconds
at most, however often somebody asks. No number and no name of a caller is ever a label.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus

from flask import Flask, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from freeswitch_callback import __version__
from freeswitch_callback.core.access import Scope
from freeswitch_callback.core.lifecycle import OPEN
from freeswitch_callback.engine.figures import Histogram
from freeswitch_callback.errors import DatabaseError
from freeswitch_callback.web import guard
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.site import Site
from freeswitch_callback.web.stream import Broadcaster

FRESH = 3.0
"""Seconds for which one answer does for all who ask."""

PREFIX = "freeswitch_callback_"

SILENT_AFTER = 10.0
"""Seconds without a word of the engine, which says one each second, after which it is not well."""

_CONTENT = "text/plain; version=0.0.4; charset=utf-8"


class _Figures(Collector):
    def __init__(self, site: Site, broadcaster: Broadcaster) -> None:
        self._site = site
        self._broadcaster = broadcaster

    def collect(self) -> Iterator[Metric]:
        yield from self._counted()
        yield from self._of_engine()
        yield from self._looked_up()

    def _counted(self) -> Iterator[Metric]:
        figures = self._site.live.figures
        missed = _counter("missed", "Missed calls that this engine recorded.", "queue", "reason")
        for (queue, reason), count in figures.missed.items():
            missed.add_metric([queue, reason], count)
        yield missed
        for name, about, label, counts in (
            (
                "recalls_closed",
                "Recalls that this engine closed (not commands, not pages).",
                "result",
                figures.closed,
            ),
            ("attempts", "Attempts of this engine that are over.", "outcome", figures.outcomes),
            ("events", "Events that a node has sent.", "node", figures.events),
        ):
            family = _counter(name, about, label)
            for value, count in counts.items():
                family.add_metric([value], count)
            yield family
        yield _histogram(
            "time_to_recall_seconds", "From a client's first call to the talk.", figures.time_to_recall
        )
        yield _histogram(
            "reaction_seconds", "From a free agent and a due recall to the call.", figures.reaction
        )

    def _of_engine(self) -> Iterator[Metric]:
        live = self._site.live
        info = _gauge("info", "The release that runs.", "version")
        info.add_metric([__version__], 1)
        yield info
        agents = _gauge("agents", "Agents by status and state.", "node", "status", "state")
        for key, count in Counter((r["node"], r["status"], r["state"]) for r in live.agent_rows()).items():
            agents.add_metric(list(key), count)
        yield agents
        callers = _gauge("queue_callers", "Callers who wait in a queue now.", "queue")
        for queue, waiting in live.callers().items():
            callers.add_metric([queue], waiting)
        yield callers
        up = _gauge("node_up", "Whether a FreeSWITCH is connected.", "node")
        spooled = _gauge("spooled_facts", "What waits for the database in a node's spool.", "node")
        called = _gauge("being_called", "Recalls that are up at a node.", "node")
        for row in live.node_rows():
            for family, value in ((up, row["up"]), (spooled, row["spooled"]), (called, row["being_called"])):
                family.add_metric([row["node"]], float(value))
        yield from (up, spooled, called)
        alarms = _gauge("alarms", "Alarms that are raised.", "alarm")
        for alarm, count in Counter(str(alarm.name) for alarm in live.alarms()).items():
            alarms.add_metric([alarm], count)
        yield alarms
        streams = _gauge("open_streams", "Pages that are open.")
        streams.add_metric([], len(self._broadcaster))
        yield streams

    def _looked_up(self) -> Iterator[Metric]:
        up = _gauge("database_up", "Whether the database answers.")
        try:
            states = self._site.ledger.open_by_state()
        except DatabaseError:
            up.add_metric([], 0)
        else:
            up.add_metric([], 1)
            recalls = _gauge("recalls", "Open recalls by state.", "state")
            for state in sorted(OPEN):
                recalls.add_metric([state], states.get(state, 0))
            yield recalls
        yield up


def _counter(name: str, about: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, about, labels=labels)


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, about, labels=labels)


def _histogram(name: str, about: str, values: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(PREFIX + name, about, list(values.buckets()), values.sum)


def install(app: Flask, site: Site, broadcaster: Broadcaster) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(site, broadcaster))
    ProcessCollector(registry=registry, pid=lambda: site.live.pid)  # who watches it means the engine
    told = (-FRESH, b"")

    @app.get("/metrics")
    @guard.for_anybody
    def metrics() -> Response:
        nonlocal told
        if not site.settings.open_metrics:
            access = guard.access()
            if access.limited or not access.may(Scope.READ):
                raise Refused(HTTPStatus.FORBIDDEN, "figures are of all queues, and you are limited to some")
        now = time.monotonic()
        if now - told[0] >= FRESH:
            told = (now, told[1])  # who asks meanwhile gets what was before
            told = (now, generate_latest(registry))
        return Response(told[1], content_type=_CONTENT)

    @app.get("/healthz")
    @guard.for_anybody
    def healthz() -> Response:
        """The engine is there, and its hub runs: it is heard from."""
        if site.live.silent < SILENT_AFTER:
            return Response("ok\n", content_type="text/plain")
        text = f"the engine has not been heard for {site.live.silent:.0f} s\n"
        return Response(text, HTTPStatus.SERVICE_UNAVAILABLE, content_type="text/plain")

    @app.get("/readyz")
    @guard.for_anybody
    def readyz() -> Response:
        """The engine does its work, and the database answers, as far as was last seen."""
        if site.live.ready and site.live.database:
            return Response("ready\n", content_type="text/plain")
        return Response("not ready\n", HTTPStatus.SERVICE_UNAVAILABLE, content_type="text/plain")
