"""What an engine of this very process knows: what the pages' process is told, and asks for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from freeswitch_callback.core.facts import Decision, Due
from freeswitch_callback.core.gates import Verdict
from freeswitch_callback.engine.alarms import Alarm
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.engine.figures import Figures
from freeswitch_callback.engine.gatekeeper import look
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.web.live import Live


class Inside(Live):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def nodes(self) -> list[str]:
        return [site.node.name for site in self._engine.sites]

    @property
    def ready(self) -> bool:
        return self._engine.ready.is_set() and not self._engine.stopping.is_set()

    @property
    def database(self) -> bool:
        return self._engine.ledger.trouble is None

    @property
    def silent(self) -> float:
        return 0.0

    @property
    def figures(self) -> Figures:
        return self._engine.figures

    def wake(self) -> None:
        self._engine.wake()

    def look_who_has_a_page(self) -> None:
        self._engine.look_who_has_a_page()

    def decide(self, agent: str, decision: Decision) -> bool:
        return self._engine.decide(agent, decision)

    def judged(self, recall: Due, now: datetime) -> tuple[list[Verdict], str]:
        boards = {site.node.name: site.recaller.switchboard for site in self._engine.sites if site.up}
        if not boards:
            return [], f"{', '.join(self.nodes)} is out of reach"
        rules = self._engine.rules
        return look(recall, boards, rules.gates(recall.queue), lambda q: rules.recall(q).queue, now), ""

    def node_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "node": site.node.name,
                "up": site.node.up.is_set(),
                "why_down": "" if site.node.up.is_set() else site.node.why_down,
                "spooled": site.recorder.behind,
                "being_called": len(site.recaller.attempts),
            }
            for site in self._engine.sites
        ]

    def agents(self) -> Mapping[str, Mapping[str, Agent]]:
        return {site.node.name: site.recaller.switchboard.agents for site in self._engine.sites}

    def tiers(self) -> Mapping[str, Mapping[str, Collection[str]]]:
        return {site.node.name: site.recaller.switchboard.tiers for site in self._engine.sites}

    def callers(self) -> Mapping[str, int]:
        waiting: Counter[str] = Counter()
        for site in self._engine.sites:
            waiting.update(site.recaller.switchboard.callers.lines())
        return waiting

    def alarms(self) -> list[Alarm]:
        return self._engine.alarms.active()
