"""What the running engine knows at this moment: nodes, agents, callers who wait, alarms.

All of it is in memory: nothing here asks FreeSWITCH, and only `verdicts` the database. `Inside` reads an
engine of the same process, `Told` is what such a one has told to the pages' process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from freeswitch_callback.core.facts import Decision, Due
from freeswitch_callback.core.gates import Verdict
from freeswitch_callback.engine.alarms import Alarm
from freeswitch_callback.engine.figures import Figures
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations.checks import agent_row


class Live(ABC):
    """Of one engine. Whatever asks it raises `EngineAway` where it does not answer."""

    @property
    @abstractmethod
    def engine(self) -> str:
        """Its name."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its process."""

    @property
    @abstractmethod
    def nodes(self) -> list[str]:
        """The names of all that are configured."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether the database was opened, and the engine does its work."""

    @property
    @abstractmethod
    def database(self) -> bool:
        """Whether nothing was wrong with the engine's database when it was last used."""

    @property
    @abstractmethod
    def silent(self) -> float:
        """Seconds since the engine was last heard."""

    @property
    @abstractmethod
    def figures(self) -> Figures:
        """What the engine has done since it was started."""

    @abstractmethod
    def wake(self) -> None:
        """A recall may be due sooner."""

    @abstractmethod
    def look_who_has_a_page(self) -> None:
        """An agent has opened or left their page."""

    @abstractmethod
    def decide(self, agent: str, decision: Decision) -> bool:
        """An agent's word on a recall that is offered to them; False if it comes too late."""

    @abstractmethod
    def judged(self, recall: Due, now: datetime) -> tuple[list[Verdict], str]:
        """As `verdicts`, of a recall with a number."""

    @abstractmethod
    def node_rows(self) -> list[dict[str, Any]]:
        """Each FreeSWITCH: whether it is connected, why not, and what waits in its spool."""

    @abstractmethod
    def agents(self) -> Mapping[str, Mapping[str, Agent]]:
        """By node and name."""

    @abstractmethod
    def tiers(self) -> Mapping[str, Mapping[str, Collection[str]]]:
        """By node and agent: the queues which that one serves."""

    @abstractmethod
    def callers(self) -> Mapping[str, int]:
        """How many wait in each queue that is known."""

    @abstractmethod
    def alarms(self) -> list[Alarm]:
        """The oldest first."""

    def agent_rows(self, name: str | None = None) -> list[dict[str, Any]]:
        """The agents of all nodes, or the one of this name on each, with the queues they serve."""
        tiers = self.tiers()
        return [
            agent_row(node, agent, tiers[node].get(agent.name, ()))
            for node, agents in self.agents().items()
            for agent in (agents.values() if name is None else _named(agents, name))
        ]

    def served_by(self, agent: str) -> tuple[str, ...]:
        """The queues which this agent serves, on all nodes."""
        return tuple(sorted({queue for tiers in self.tiers().values() for queue in tiers.get(agent, ())}))

    def verdicts(self, ledger: Ledger, recall_id: int, now: datetime) -> tuple[list[Verdict], str]:
        """What the gates say of a recall that only the moment knows; or why they were not asked."""
        recall = ledger.recall(recall_id)
        if recall is None or recall.number is None:
            return [], "there is no number to call"
        return self.judged(recall, now)


def _named(agents: Mapping[str, Agent], name: str) -> list[Agent]:
    return [agents[name]] if name in agents else []
