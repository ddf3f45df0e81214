"""What is known of one node's agents: read from FreeSWITCH, kept fresh by its events.

The picture may be behind the truth by a moment; that is why an agent is taken by compare-and-set and looked
at once more before anybody is called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import TypeVar
from urllib.parse import unquote

import gevent
import structlog

from freeswitch_callback.core import numbers
from freeswitch_callback.core.callers import Callers
from freeswitch_callback.core.dispatch import Operator, serving, wrap_up_ends
from freeswitch_callback.core.facts import Event
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.errors import UnsafeValue
from freeswitch_callback.esl import callcenter, commands
from freeswitch_callback.esl.callcenter import Agent, Channel, HasApi, Tier
from freeswitch_callback.esl.rows import Reader

log = structlog.get_logger(__name__)

T = TypeVar("T")

_TALKING = "In a queue call"
_TABLE_IS_BEHIND = 2.0
"""Seconds by which `show channels` may be behind the events; 0.6 were measured."""
_LONGEST_REST = 0.1
"""Seconds."""


@lru_cache(maxsize=20_000)
def phone_of(endpoint: str) -> str:
    """The phone in a contact or a channel's name: 1001 of `user/1001@house`, `sofia/internal/sip:1001@…`.

    mod_loopback's channels are `loopback/1001-a` for the contact `loopback/1001/context`.
    """
    # The user in a channel's name is percent-encoded, `%2B1202…` (recording `duplicate_origination_uuid`).
    parts = unquote(endpoint.rpartition("]")[2].rpartition("}")[2]).split("/")
    if parts[0] == "loopback" and len(parts) > 1:
        return parts[1].removesuffix("-a").removesuffix("-b")
    return parts[-1].removeprefix("sip:").partition("@")[0].partition(";")[0]


def _number_in(created: Event) -> str:
    """The number at the other end of the channel that an event tells of (`direct_answered`)."""
    if created.get("Call-Direction") == "outbound":
        return created.get("Caller-Destination-Number") or ""
    return created.get("Caller-Orig-Caller-ID-Number") or created.get("Caller-Caller-ID-Number") or ""


def _number_of(channel: Channel) -> str:
    """The same of a row of `show channels`, where what was dialled is percent-encoded.

    `cid_num` and `dest` change while the call goes on, the `initial_` ones do not
    (`duplicate_origination_uuid`).
    """
    if channel.direction == "outbound":
        return unquote(channel.initial_dest or channel.dest)
    return channel.initial_cid_num or channel.cid_num


_Line = tuple[str, str | None, str]
"""What an event tells of a channel: its uuid, whose phone it is (None: it is gone), the number at its other
end. Kept instead of the event, which has ten kB."""


def _line_in(event: Event) -> _Line:
    uuid = event.get("Unique-ID") or ""
    if event.name != "CHANNEL_CREATE":
        return uuid, None, ""
    return uuid, phone_of(event.get("Channel-Name") or ""), _number_in(event)


class Lines:
    """The channels that are up: whose phone each is, and the number at its other end.

    That number is the caller's, or the one that was dialled: as the channel was made, whatever transfers and
    pick-ups show later. It is kept as text and by its last digits; read as a number only when somebody asks.
    """

    def __init__(self) -> None:
        self.channels: dict[str, tuple[str, str]] = {}  # channel uuid: its phone, the number
        self.phones: dict[str, int] = {}  # on how many of them each phone is
        self._by_digits: dict[str, set[str]] = {}

    def up(self, uuid: str, phone: str, number: str) -> None:
        self.down(uuid)
        self.channels[uuid] = phone, number
        self.phones[phone] = self.phones.get(phone, 0) + 1
        self._by_digits.setdefault(_last_digits(number), set()).add(uuid)

    def down(self, uuid: str) -> bool:
        """Whether it was up."""
        phone, number = self.channels.pop(uuid, (None, ""))
        if phone is None:
            return False
        self.phones[phone] -= 1
        if not self.phones[phone]:
            del self.phones[phone]
        there = self._by_digits[_last_digits(number)]
        there.discard(uuid)
        if not there:
            del self._by_digits[_last_digits(number)]
        return True

    def has(self, number: str, rules: NumberRules) -> bool:
        """Whether this number (E.164, or an extension) is on one of them."""
        alike = {self.channels[uuid][1] for uuid in self._by_digits.get(_last_digits(number), ())}
        return any(numbers.read(text, rules).e164 == number for text in alike)


def _last_digits(number: str) -> str:
    """What all ways to write one number have in common; no country has shorter ones."""
    return numbers.digits_in(number)[-4:]


def _unhurried(rows: Iterable[T]) -> Iterator[T]:
    """Of a thousand rows some at a time: an agent who becomes free meanwhile does not wait for the rest."""
    for number, row in enumerate(rows, 1):
        yield row
        if number % 50 == 0:
            gevent.sleep(0)


class Unhurried:
    """A node that has a rest behind each answer, three times as long as the answer took. Whoever asks much,
    and is in no hurry, leaves it and this process to the calls."""

    def __init__(self, node: HasApi, clock: Clock) -> None:
        self._node = node
        self._clock = clock

    def api(self, text: str) -> str:
        asked = self._clock.monotonic()
        answer = self._node.api(text)
        self._clock.sleep(min(3 * (self._clock.monotonic() - asked), _LONGEST_REST))
        return answer


class Switchboard:
    """One node's agents, tiers, live callers and live channels."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self.agents: dict[str, Agent] = {}
        self._waiting: dict[str, Agent] = {}  # those of them whose state is Waiting: few of many
        self.tiers: dict[str, dict[str, tuple[int, int]]] = {}
        self.callers = Callers()
        self.rests: dict[str, float] = {}
        self.elsewhere: dict[str, float] = {}  # another engine has them: until when, unless an event tells
        self.recall_ended: dict[str, float] = {}
        self.free_since: dict[str, float] = {}  # as events told (epoch seconds)
        self.pages: Collection[str] | None = None  # agents who have their page open; None: not asked
        self._lines = Lines()
        self._lately: deque[tuple[float, _Line]] = (
            deque()
        )  # channels that came and went, and when (monotonic)
        self._meanwhile: list[Event] | None = None
        self._unusable: set[str] = set()
        self._agents_reader, self._tiers_reader, self._channels_reader = (
            Reader(Agent),
            Reader(Tier),
            Reader(Channel),
        )

    @property
    def channels(self) -> Collection[str]:
        """The uuids of the channels that are up."""
        return self._lines.channels.keys()

    def interrupted(self) -> None:
        """The connection was lost for a while: what came before says nothing of what is up now."""
        self._lately.clear()

    def sync(self, node: HasApi) -> None:
        """Read everything from FreeSWITCH. Raises `FreeSwitchError`; what is known stays then.

        Events go on coming in while the answers do; they are taken in once more behind what was read, which
        may be older than they are.
        """
        meanwhile: list[Event] = []
        self._meanwhile = meanwhile
        self._forget_what_is_in_the_table()
        lately = [line for _, line in self._lately]
        try:
            agents = list(_unhurried(callcenter.each_agent(node, self._agents_reader)))
            tiers = self._tiers(node)
            queues = {queue for served in tiers.values() for queue in served}
            members = {queue: callcenter.members(node, queue) for queue in queues}
            channels = list(_unhurried(callcenter.each_channel(node, self._channels_reader)))
        finally:
            self._meanwhile = None
        self.agents = {agent.name: agent for agent in agents}
        self._waiting = {agent.name: agent for agent in agents if agent.state == "Waiting"}
        self.tiers = tiers
        for queue, there in members.items():
            waiting = [member for member in there if member.state in ("Waiting", "Trying")]
            self.callers.sync(queue, {m.session_uuid or m.uuid: float(m.joined_epoch) for m in waiting})
        self._lines = Lines()
        for channel in channels:
            self._lines.up(channel.uuid, phone_of(channel.name), _number_of(channel))
        for line in lately:
            self._channel(line)
        for event in meanwhile:
            self.feed(event)

    def _tiers(self, node: HasApi) -> dict[str, dict[str, tuple[int, int]]]:
        """By agent: the queues they serve. One with a name that fits in no command is left out, and said."""
        tiers: dict[str, dict[str, tuple[int, int]]] = {}
        for tier in _unhurried(callcenter.each_tier(node, self._tiers_reader)):
            try:
                commands.name(tier.queue)
                commands.name(tier.agent)
            except UnsafeValue as error:
                if str(error) not in self._unusable:
                    self._unusable.add(str(error))
                    log.error("tier_left_out", queue=tier.queue, agent=tier.agent, error=str(error))
                continue
            if serving(tier.state):
                tiers.setdefault(tier.agent, {})[tier.queue] = (tier.level, tier.position)
        return tiers

    def feed(self, event: Event) -> bool:
        """Take one event in; True if an agent may have become free by it."""
        if self._meanwhile is not None:
            self._meanwhile.append(event)
        match event.name:
            case "CHANNEL_CREATE" | "CHANNEL_HANGUP_COMPLETE":
                line = _line_in(event)
                self._lately.append((self._clock.monotonic(), line))
                self._forget_what_is_in_the_table()
                return self._channel(line)
            case "CUSTOM" if event.subclass == "callcenter::info":
                return self.callers.feed(event) or self._agent_changed(event)
        return False

    def _channel(self, line: _Line) -> bool:
        """True if one is gone that was up."""
        uuid, phone, number = line
        if phone is None:
            return self._lines.down(uuid)
        self._lines.up(uuid, phone, number)
        return False

    def _forget_what_is_in_the_table(self) -> None:
        known = self._clock.monotonic() - _TABLE_IS_BEHIND
        while self._lately and self._lately[0][0] < known:
            self._lately.popleft()

    def _agent_changed(self, event: Event) -> bool:
        agent = self.agents.get(event.get("CC-Agent") or "")
        if agent is None:
            return False
        match event.get("CC-Action"):
            case "agent-state-change":
                state = event.get("CC-Agent-State") or agent.state
                ended = int(event.timestamp) if agent.state == _TALKING else agent.last_bridge_end
                self.seen(agent._replace(state=state, last_bridge_end=ended))
                if state == "Waiting":
                    self.free_since[agent.name] = event.timestamp
                    self.elsewhere.pop(agent.name, None)
                return state == "Waiting"
            case "agent-status-change":
                self.seen(agent._replace(status=event.get("CC-Agent-Status") or agent.status))
                self.free_since[agent.name] = event.timestamp
                return True
        return False

    def seen(self, agent: Agent) -> None:
        """An agent as they are now."""
        self.agents[agent.name] = agent
        if agent.state == "Waiting":
            self._waiting[agent.name] = agent
        else:
            self._waiting.pop(agent.name, None)

    def on_the_phone(self, agent: Agent) -> bool:
        """Whether a live channel is this agent's phone."""
        return phone_of(agent.contact) in self._lines.phones

    @property
    def numbers(self) -> dict[str, str]:
        """By the uuids of the channels that are up: the number at the other end, as text."""
        return {uuid: number for uuid, (_, number) in self._lines.channels.items() if number}

    @property
    def last_answer(self) -> int:
        """When an agent last began to talk to a caller of a queue, as of the last `sync`; epoch seconds."""
        return max((agent.last_bridge_start for agent in self.agents.values()), default=0)

    def on_the_line(self, number: str, rules: NumberRules) -> bool:
        """Whether this number (E.164, or an extension) is on a call right now, in a queue or with anybody."""
        return self._lines.has(number, rules)

    def operators(self, held: Collection[str]) -> list[Operator]:
        """The agents as the decision sees them; `held` are those that a recall of ours has."""
        return self._seen_as_operators(self.agents.values(), held)

    def operators_who_wait(self, held: Collection[str]) -> list[Operator]:
        """As `operators`, of those who are free or become it by time alone: few of many agents."""
        wait = (a for a in self._waiting.values() if a.name not in held)
        return self._seen_as_operators(wait, held)

    def operators_named(self, names: Iterable[str], held: Collection[str]) -> list[Operator]:
        return self._seen_as_operators((self.agents[name] for name in names if name in self.agents), held)

    def _seen_as_operators(self, agents: Iterable[Agent], held: Collection[str]) -> list[Operator]:
        phones = self._lines.phones
        return [
            Operator(
                name=a.name,
                status=a.status,
                state=a.state,
                contact=a.contact,
                tiers=self.tiers[a.name],
                free_from=wrap_up_ends(a.last_bridge_end, a.wrap_up_time, a.ready_time),
                idle_since=max(float(a.last_bridge_end), self.recall_ended.get(a.name, 0.0)),
                rests_until=max(self.rests.get(a.name, 0.0), self.elsewhere.get(a.name, 0.0)),
                page=self.pages is None or a.name in self.pages,
                busy=a.name in held or a.external_calls_count > 0 or phone_of(a.contact) in phones,
            )
            for a in agents
            if a.name in self.tiers
        ]
