"""What has changed since the pages were last told, found cheaply: an engine has calls to make.

Agents are compared by identity first: of a thousand who are as they were that costs some 50 µs. At every poll
all are read anew, equal and not the same: then they are looked at some at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import gevent

from freeswitch_callback.engine.alarms import Alarm
from freeswitch_callback.engine.daemon import EngineRules
from freeswitch_callback.engine.figures import Histogram
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.web.live import Live
from freeswitch_callback.web.messages import News, Rules, Seen
from freeswitch_callback.web.site import Settings

AT_ONCE = 50
"""Agents, and times ten counts, in one message."""

COUNTED_EVERY = 1.0
"""Seconds between two looks at the figures, which change with every event."""

_COUNTS = ("events", "missed", "closed", "outcomes")
_HISTOGRAMS = ("time_to_recall", "reaction")

T = TypeVar("T")


class Changes:
    """For one reader, who knows nothing at first."""

    def __init__(
        self, live: Live, rules: Callable[[], EngineRules], settings: Callable[[], Settings]
    ) -> None:
        self._live = live
        self._rules = rules
        self._settings = settings
        self._complete = False
        self._engine_rules: EngineRules | None = None
        self._told_settings: Settings | None = None
        self._ready: bool | None = None
        self._database: bool | None = None
        self._nodes: list[dict[str, Any]] | None = None
        self._alarms: list[Alarm] | None = None
        self._callers: Mapping[str, int] = {}
        self._agents: dict[str, dict[str, Agent]] = {}
        self._tiers: dict[str, Mapping[str, Collection[str]]] = {}
        self._counts: dict[str, dict[Any, int]] = {name: {} for name in _COUNTS}
        self._histograms: dict[str, object] = {}
        self._counted_at = float("-inf")

    def look(self) -> Iterator[News]:
        """What is new, in small messages; nothing, if nothing is. What is yielded counts as told."""
        live = self._live
        yield from self._of_configuration()
        nodes, alarms = live.node_rows(), live.alarms()
        ready, database = live.ready, live.database
        news = News(
            ready=ready if ready != self._ready else None,
            database=database if database != self._database else None,
            nodes=nodes if nodes != self._nodes else None,
            alarms=alarms if alarms != self._alarms else None,
        )
        self._ready, self._database, self._nodes, self._alarms = ready, database, nodes, alarms
        if news != News():
            yield news
        callers = live.callers()
        if callers != self._callers:
            changed = differences(self._callers, callers)
            self._callers = dict(callers)
            for part in portions(changed, AT_ONCE * 10):
                yield News(callers=part)
        for node, agents in live.agents().items():
            yield from self._of_agents(node, agents)
        for node, tiers in live.tiers().items():
            yield from self._of_tiers(node, tiers)
        now = time.monotonic()
        if now - self._counted_at >= COUNTED_EVERY:
            self._counted_at = now
            yield from self._counted()
        if not self._complete:
            self._complete = True
            yield News(complete=True)

    def _of_configuration(self) -> Iterator[News]:
        """What is given by name of a queue is worked out here, so that nobody has to ask for it: it is wanted
        inside transactions, in whatever thread they run."""
        rules, settings = self._rules(), self._settings()
        if rules is not self._engine_rules:
            self._engine_rules = rules
            named = dict.fromkeys(rules.queues)
            gates = {None: rules.gates(None)} | {queue: rules.gates(queue) for queue in named}
            recall = {None: rules.recall("")} | {queue: rules.recall(queue) for queue in named}
            yield News(rules=Rules(gates, recall))
        if settings is not self._told_settings:
            self._told_settings = settings
            yield News(settings=settings)

    def _of_agents(self, node: str, agents: Mapping[str, Agent]) -> Iterator[News]:
        told = self._agents.setdefault(node, {})
        others = [agent for name, agent in agents.items() if told.get(name) is not agent]
        gone = told.keys() - agents.keys() if others or len(told) != len(agents) else ()
        for at in range(0, len(others), AT_ONCE):
            changed: dict[str, Seen | None] = {}
            for agent in others[at : at + AT_ONCE]:
                before, told[agent.name] = told.get(agent.name), agent
                if before is None or seen(before) != seen(agent):
                    changed[agent.name] = seen(agent)
            if changed:
                yield News(agents={node: changed})
            else:
                gevent.sleep(0)
        for part in portions(dict.fromkeys(gone), AT_ONCE):
            for name in part:
                del told[name]
            yield News(agents={node: part})

    def _of_tiers(self, node: str, tiers: Mapping[str, Collection[str]]) -> Iterator[News]:
        """The switchboard makes them anew when it has read them, and changes none."""
        told = self._tiers.get(node, {})
        if tiers is told:
            return
        changed = {agent: None for agent in told if agent not in tiers} | {
            agent: tuple(queues)
            for agent, queues in tiers.items()
            if agent not in told or set(told[agent]) != set(queues)
        }
        self._tiers[node] = tiers
        for part in portions(changed, AT_ONCE):
            yield News(tiers={node: part})

    def _counted(self) -> Iterator[News]:
        figures = self._live.figures
        for name in _COUNTS:
            counts, told = getattr(figures, name), self._counts[name]
            changed = {key: count for key, count in counts.items() if told.get(key) != count}
            told.update(changed)
            for part in portions(changed, AT_ONCE * 10):
                yield News(counts={name: part})
        for name in _HISTOGRAMS:
            histogram: Histogram = getattr(figures, name)
            values = (histogram.sum, *histogram.buckets())
            if values != self._histograms.get(name):
                self._histograms[name] = values
                yield News(histograms={name: histogram})


def seen(agent: Agent) -> Seen:
    return Seen(agent.status, agent.state, agent.contact, agent.last_bridge_end)


def differences(before: Mapping[str, T], now: Mapping[str, T]) -> dict[str, T | None]:
    """What has another value now, None where it has none any more."""
    changed: dict[str, T | None] = {key: value for key, value in now.items() if before.get(key) != value}
    return changed | {key: None for key in before if key not in now}


def portions(values: Mapping[Any, T], size: int) -> Iterator[dict[Any, T]]:
    items = iter(values.items())
    while part := dict(islice(items, size)):
        yield part
