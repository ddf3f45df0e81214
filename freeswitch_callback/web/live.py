"""What the running engine knows at this moment: nodes, agents, callers who wait, alarms.

All of it is in memory: nothing here asks FreeSWITCH or the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from freeswitch_callback.core.facts import Decision
from freeswitch_callback.core.gates import Verdict
from freeswitch_callback.engine.alarms import Alarm
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.engine.figures import Figures
from freeswitch_callback.engine.gatekeeper import look
from freeswitch_callback.engine.switchboard import Switchboard
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations.checks import agent_row


def _named(board: Switchboard, name: str) -> list[Agent]:
    return [board.agents[name]] if name in board.agents else []


class Live:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def ready(self) -> bool:
        """Whether the database was opened, and the engine does its work."""
        return self._engine.ready.is_set() and not self._engine.stopping.is_set()

    @property
    def database(self) -> bool:
        """Whether nothing was wrong with the engine's database when it was last used."""
        return self._engine.ledger.trouble is None

    @property
    def figures(self) -> Figures:
        """What the engine has done since it was started."""
        return self._engine.figures

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def nodes(self) -> list[str]:
        return [site.node.name for site in self._engine.sites]

    def wake(self) -> None:
        """A recall may be due sooner."""
        self._engine.wake()

    def look_who_has_a_page(self) -> None:
        """An agent has opened or left their page."""
        self._engine.look_who_has_a_page()

    def decide(self, agent: str, decision: Decision) -> bool:
        """An agent's word on a recall that is offered to them; False if it comes too late."""
        return self._engine.decide(agent, decision)

    def node_rows(self) -> list[dict[str, Any]]:
        """Each FreeSWITCH: whether it is connected, why not, and what waits in its spool."""
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

    def agent_rows(self, name: str | None = None) -> list[dict[str, Any]]:
        """The agents of all nodes, or the one of this name on each, with the queues they serve."""
        return [
            agent_row(node, agent, board.tiers.get(agent.name, ()))
            for node, board in self._boards().items()
            for agent in (board.agents.values() if name is None else _named(board, name))
        ]

    def served_by(self, agent: str) -> tuple[str, ...]:
        """The queues which this agent serves, on all nodes."""
        return tuple(sorted({q for board in self._boards().values() for q in board.tiers.get(agent, ())}))

    def callers(self) -> Mapping[str, int]:
        """How many wait in each queue that is known."""
        waiting: Counter[str] = Counter()
        for board in self._boards().values():
            waiting.update(board.callers.lines())
        return waiting

    def alarms(self) -> list[Alarm]:
        return self._engine.alarms.active()

    def verdicts(self, ledger: Ledger, recall_id: int, now: datetime) -> tuple[list[Verdict], str]:
        """What the gates say of a recall that only the moment knows; or why they were not asked."""
        recall = ledger.recall(recall_id)
        if recall is None or recall.number is None:
            return [], "there is no number to call"
        boards = {site.node.name: site.recaller.switchboard for site in self._engine.sites if site.up}
        if not boards:
            return [], f"{', '.join(self.nodes)} is out of reach"
        rules = self._engine.rules
        return look(recall, boards, rules.gates(recall.queue), lambda q: rules.recall(q).queue, now), ""

    def _boards(self) -> dict[str, Switchboard]:
        return {site.node.name: site.recaller.switchboard for site in self._engine.sites}
