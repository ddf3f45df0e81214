"""mod_callcenter's agents and tiers: their status and state, and the compare-and-set between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.events import Bus, header
from freeswitch_callback.simulator.tables import ON_DUTY, STATES, STATUSES, Agent, Tier

INFO = "callcenter::info"
AGENT_NOT_FOUND = "-ERR Agent not found!\n"


def info_lines(action: str, values: Mapping[str, object]) -> list[str]:
    """The headers of a `callcenter::info` event: `CC_Agent="x"` becomes `CC-Agent: x`."""
    return [
        f"CC-Action: {action}",
        *(header(name.replace("_", "-"), value) for name, value in values.items()),
    ]


class Roster:
    """Who works here, by name, and for which queues."""

    def __init__(self, bus: Bus, now: Callable[[], float]) -> None:
        self._bus = bus
        self._time = now
        self.agents: dict[str, Agent] = {}
        self.tiers: list[Tier] = []
        self.changed: Callable[[], None] = lambda: None

    def tell(self, action: str, **values: object) -> None:
        """A `callcenter::info` event that belongs to no leg."""
        self._bus.fire("CUSTOM", lambda: info_lines(action, values), subclass=INFO, source="mod_callcenter.c")

    def _now(self) -> int:
        return int(self._time())

    def set_status(self, name: str, status: str) -> str:
        agent = self.agents.get(name)
        if status not in STATUSES:
            return "-ERR Invalid Agent Status!\n"
        if agent is None:
            return AGENT_NOT_FOUND
        agent.status, agent.last_status_change = status, self._now()
        self.tell("agent-status-change", CC_Agent=name, CC_Agent_Status=status)
        self.changed()
        return "+OK\n"

    def set_state(self, name: str, state: str, *, if_waiting: bool = False) -> str:
        """`set state`, or the compare-and-set `set state_if_waiting`: +OK says that the row was Waiting and
        is now `state`; it does not look at wrap-up, `ready_time` or calls outside of queues."""
        agent = self.agents.get(name)
        if state not in STATES:
            return "-ERR Invalid Agent State!\n"
        if agent is None or (if_waiting and (agent.state != "Waiting" or agent.status not in ON_DUTY)):
            return AGENT_NOT_FOUND
        agent.state = state
        self.tell("agent-state-change", CC_Agent=name, CC_Agent_State=state)
        self.changed()
        return "+OK\n"

    _NUMBERS: ClassVar = {
        *("ready_time", "wrap_up_time", "max_no_answer", "reject_delay_time"),
        *("busy_delay_time", "no_answer_delay_time"),
    }

    def set_agent(self, key: str, name: str, value: str) -> str:
        """`agent set KEY NAME VALUE`."""
        if key == "status":
            return self.set_status(name, value)
        if key in ("state", "state_if_waiting"):
            return self.set_state(name, value, if_waiting=key == "state_if_waiting")
        agent = self.agents.get(name)
        if agent is None:
            return AGENT_NOT_FOUND
        if key in self._NUMBERS:
            setattr(agent, key, int(value) if value.isdigit() else 0)
        elif key in ("contact", "type"):
            setattr(agent, key, value)
        else:
            return "-ERR Invalid Agent Update KEY!\n"
        return "+OK\n"

    def get_agent(self, key: str, name: str) -> str:
        agent = self.agents.get(name)
        if agent is None:
            return AGENT_NOT_FOUND
        if key not in ("status", "state", "uuid"):
            return "-ERR Invalid Agent Update KEY!\n"
        value = getattr(agent, key) or ""
        self.tell(f"agent-{key}-get", CC_Agent=name, **{f"CC_Agent_{key.capitalize()}": value})
        return value

    def reload(self) -> None:
        """Every agent is Waiting again, and every tier Ready; no event says so (1.10.12, source)."""
        for agent in self.agents.values():
            agent.state, agent.uuid, agent.external_calls_count = "Waiting", "", 0
        for tier in self.tiers:
            tier.state = "Ready"

    def track(self, name: str, leg: Channel) -> None:
        """`callcenter_track`: the leg counts as a call of the agent's outside of queues."""
        agent = self.agents.get(name)
        if agent is not None:
            agent.external_calls_count += 1
            before = leg.on_complete

            def ended() -> None:
                agent.external_calls_count -= 1
                before()

            leg.on_complete = ended
