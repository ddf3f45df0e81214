"""What mod_callcenter and FreeSWITCH say about agents, tiers, queues, members, channels: as typed snapshots.

Every function takes something with `api(text) -> str` (a `Node`, a `Connection`, a fake) and asks once. A
column that an older 1.10 does not have gets its default; an answer that is none is a `ProtocolError`.
Epochs are whole seconds since 1970, 0 = never. Shapes: recordings `agent_states`, `members_abandoned`,
`recall_through_the_queue_abandoned`, `duplicate_origination_uuid`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from freeswitch_callback.errors import CommandFailed, ProtocolError
from freeswitch_callback.esl import commands
from freeswitch_callback.esl.commands import MARKS, Command, succeeded
from freeswitch_callback.esl.frames import clean
from freeswitch_callback.esl.rows import Reader, Table, row_of


class HasApi(Protocol):
    def api(self, text: str, /) -> str: ...


class HasApis(HasApi, Protocol):
    """It also sends several commands in one piece: one round trip for all, `meanwhile` in its course."""

    def apis(self, *texts: str, meanwhile: Callable[[], None] = ...) -> list[str]: ...


class TakesOrders(Protocol):
    """`may`: whether it still may be sent, asked last."""

    def api(self, text: str, /, may: Callable[[], bool]) -> str: ...


class Agent(NamedTuple):
    name: str
    type: str = "callback"
    contact: str = ""
    status: str = "Logged Out"
    """`Available`, `Available (On Demand)`, `On Break`, `Logged Out`"""
    state: str = "Waiting"
    """`Waiting`, `Receiving`, `In a queue call`, `Idle`, `Reserved`"""
    wrap_up_time: int = 0
    reject_delay_time: int = 0
    busy_delay_time: int = 0
    no_answer_delay_time: int = 0
    max_no_answer: int = 0
    no_answer_count: int = 0
    last_bridge_start: int = 0
    last_bridge_end: int = 0
    last_offered_call: int = 0
    last_status_change: int = 0
    calls_answered: int = 0
    talk_time: int = 0
    ready_time: int = 0
    external_calls_count: int = 0
    uuid: str = ""
    """the agent's own channel (type `uuid-standby`)"""
    instance_id: str = "single_box"


class Tier(NamedTuple):
    """An agent's place in a queue."""

    queue: str
    agent: str
    state: str = "Ready"
    """`Ready`, `No Answer`, `Offering`, `Active Inbound`, `Standby`"""
    level: int = 1
    position: int = 1


class Queue(NamedTuple):
    name: str
    strategy: str = ""
    discard_abandoned_after: int = 60
    """seconds a member who left stays in the list of members"""
    abandoned_resume_allowed: bool = False
    max_wait_time: int = 0
    """seconds; 0 = no limit"""
    max_wait_time_with_no_agent: int = 0
    skip_agents_with_external_calls: bool = True


class Member(NamedTuple):
    """A caller in a queue, or one who left it. `uuid` names no person: anonymous callers may share one."""

    queue: str
    uuid: str
    session_uuid: str = ""
    """the caller's leg; empty once it left the queue"""
    cid_number: str = ""
    cid_name: str = ""
    system_epoch: int = 0
    joined_epoch: int = 0
    rejoined_epoch: int = 0
    bridge_epoch: int = 0
    abandoned_epoch: int = 0
    base_score: int = 0
    serving_agent: str = ""
    state: str = "Unknown"
    """`Waiting`, `Trying`, `Answered`, `Abandoned` (which only means "left this queue")"""
    instance_id: str = "single_box"


class Channel(NamedTuple):
    """A row of `show channels`; text as FreeSWITCH gives it (`name` and `dest` percent-encoded)."""

    uuid: str
    direction: str = ""
    created_epoch: int = 0
    name: str = ""
    state: str = ""
    callstate: str = ""
    cid_name: str = ""
    cid_num: str = ""
    callee_num: str = ""
    initial_cid_num: str = ""
    initial_dest: str = ""
    dest: str = ""
    application: str = ""
    application_data: str = ""
    context: str = ""
    presence_id: str = ""
    accountcode: str = ""
    call_uuid: str = ""


_CAUSE, _EPOCH = re.compile(r"[A-Z0-9_]+"), re.compile(r"[1-9][0-9]{8,11}")
_NULL = "(null)"
"""How the printed form shows a column that was never set (1.10.12, source)."""

# --- asking -------------------------------------------------------------------------------------------------


def agents(node: HasApi) -> list[Agent]:
    return list(each_agent(node, Reader(Agent)))


def each_agent(node: HasApi, reader: Reader[Agent]) -> Iterator[Agent]:
    return reader.read(_callcenter(node, commands.agent_list()))


def tiers(node: HasApi) -> list[Tier]:
    return list(each_tier(node, Reader(Tier)))


def each_tier(node: HasApi, reader: Reader[Tier]) -> Iterator[Tier]:
    return reader.read(_callcenter(node, commands.tier_list()))


def queues(node: HasApi) -> list[Queue]:
    return list(Reader(Queue).read(_callcenter(node, commands.queue_list())))


def members(node: HasApi, queue: str) -> list[Member]:
    """Everybody in the list, those who left included; read `state`."""
    return list(Reader(Member).read(_callcenter(node, commands.members(queue))))


def channels(node: HasApi) -> list[Channel]:
    return list(each_channel(node, Reader(Channel)))


def each_channel(node: HasApi, reader: Reader[Channel]) -> Iterator[Channel]:
    asked = commands.show_channels()
    table = Table(asked, node.api(asked), "rows")
    # Without channels there is no "rows", only {"row_count":0}.
    return reader.read(table) if table.has_rows or "rows" in table.others else iter(())


def _callcenter(node: HasApi, asked: Command) -> Table:
    """Its status stands before its rows (recording `agent_states`)."""
    table = Table(asked, node.api(asked), "response")
    if table.others.get("status") != "success":
        said = clean(str(table.others.get("message") or table.others.get("status")))
        raise CommandFailed(f"FreeSWITCH refused {asked.label!r}: {said:.200}")
    return table


def read_agent(node: HasApi, agent: str) -> Agent | None:
    """One agent as it is now; None if there is none of that name. (`agent get` would wake every listener.)

    Only the printed form can be asked for one agent, and there a contact may hold the column separator. No
    value has less than no separator in it: a row with as many cells as there are columns is what it seems.
    Any other answer is not read, and all agents are asked for as JSON.
    """
    asked = commands.agent_row(agent)
    return _agent_row(node, agent, asked, node.api(asked))


def _agent_row(node: HasApi, agent: str, asked: Command, answer: str) -> Agent | None:
    if answer.startswith("-ERR"):
        raise CommandFailed(f"FreeSWITCH refused {asked.label!r}: {answer[4:].strip():.200}")
    match answer.removesuffix("\n").split("\n"):
        case ["+OK"]:
            return None
        case [header, line, "+OK"]:
            columns, cells = header.split("|"), line.split("|")
            row = dict(zip(columns, (None if cell == _NULL else cell for cell in cells), strict=False))
            if len(cells) == len(columns) == len(row) and row.get("name") == agent:
                return row_of(Agent, row)
    return next((row for row in agents(node) if row.name == agent), None)


def reserve(node: HasApi, agent: str) -> bool:
    """True: the row was Waiting and is ours now, which does not say the agent is free: read it again.

    False: somebody was faster, or the agent is not Available.
    """
    asked = commands.reserve(agent)
    return _reserved(asked, node.api(asked))


def reserve_and_read(
    node: HasApis, agent: str, meanwhile: Callable[[], None] = lambda: None
) -> tuple[bool, Agent | None]:
    """`reserve`, and the agent as it was right behind that, in one round trip; `meanwhile` is called in its
    course."""
    reserving, reading = commands.reserve(agent), commands.agent_row(agent)
    reserved, row = node.apis(reserving, reading, meanwhile=meanwhile)
    return _reserved(reserving, reserved), _agent_row(node, agent, reading, row)


def _reserved(asked: Command, answer: str) -> bool:
    if answer.strip() == "-ERR Agent not found!":
        return False
    succeeded(answer, asked)
    return True


def release(
    node: TakesOrders, agent: str, may: Callable[[], bool], *, to: Literal["Waiting", "Idle"] = "Waiting"
) -> None:
    """Sets the state whatever it was (no compare-and-set): read first, release what is still Reserved, and
    only if it still `may` be sent then (`NotSent`): this process may have been stopped in between."""
    asked = commands.release(agent, to)
    succeeded(node.api(asked, may=may), asked)


def set_ready_at(node: HasApi, agent: str, epoch: int) -> None:
    asked = commands.ready_at(agent, epoch)
    succeeded(node.api(asked), asked)


def now(node: HasApi) -> float:
    """FreeSWITCH's time, seconds since 1970; by it its queues and events are dated."""
    asked = commands.strmicroepoch()
    answer = node.api(asked).strip()
    if not (answer.isascii() and answer.isdecimal()):
        raise ProtocolError(f"{asked.label!r} was answered with {answer!r:.80}")
    return int(answer) / 1e6


def uuid_exists(node: HasApi, uuid: str) -> bool:
    asked = commands.uuid_exists(uuid)
    answer = node.api(asked).strip()
    if answer not in ("true", "false"):
        raise ProtocolError(f"{asked.label!r} was answered with {answer!r:.80}")
    return answer == "true"


def uuid_kill(node: HasApi, uuid: str, cause: str = "NORMAL_CLEARING") -> bool:
    """False: there was no such channel."""
    return not node.api(commands.uuid_kill(uuid, cause)).startswith("-ERR")


MARKED: tuple[Literal["answered", "second", "ended"], ...] = ("answered", "second", "ended")
"""What the legs of a recall leave in FreeSWITCH's database: the first answered, the second did, all over."""


def mark(node: HasApi, call_uuid: str, event: Literal["answered", "second", "ended"]) -> str:
    """The mark that a recall's leg left in FreeSWITCH's database: "1", or more (`mailbox`); '' for none."""
    asked = commands.db_select(MARKS, f"{call_uuid}.{event}")
    answer = node.api(asked).strip()
    # No such key = an empty answer, which the socket reports as "-ERR no reply".
    return "" if answer in ("", "-ERR no reply") else succeeded(answer, asked)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What the dialplan's `callback_connect` keeps of a recall's end. Whole seconds since 1970, as FreeSWITCH
    has them; `bridged` 0: the two were never connected."""

    cause: str
    bridged: int
    ended: int


def mailbox(text: str) -> Mailbox | None:
    """The mark `ended`, if it says more than that: `NORMAL_CLEARING.1795442453.1795442456`."""
    match text.split("."):
        case [cause, bridged, ended] if _CAUSE.fullmatch(cause) and _EPOCH.fullmatch(ended):
            if bridged in ("", "0") or _EPOCH.fullmatch(bridged):
                return Mailbox(cause, int(bridged or 0), int(ended))
    return None


def forget_marks(node: HasApis, call_uuid: str) -> None:
    asked = [commands.db_delete(MARKS, f"{call_uuid}.{event}") for event in MARKED]
    for command, answer in zip(asked, node.apis(*asked), strict=True):
        succeeded(answer, command)


REPORTED: tuple[Literal["callback_missed", "callback_request"], ...] = ("callback_missed", "callback_request")
"""The realms in which the dialplan's hook leaves the uuids of calls that somebody has to be told of."""

_LIST_IS_CUT = 4095
"""Characters that `db list` answers at most (1.10.12)."""


def reported(node: HasApis) -> tuple[list[tuple[str, str]], bool]:
    """Each call that the hook has left on record at FreeSWITCH, as realm and key; and whether these are all.
    For the others, strike some of these and ask again."""
    asked = [commands.db_list(realm) for realm in REPORTED]
    found: list[tuple[str, str]] = []
    complete = True
    for realm, command, answer in zip(REPORTED, asked, node.apis(*asked), strict=True):
        text = answer.strip()
        if text in ("", "-ERR no reply"):
            continue
        keys = succeeded(text, command).split(",")
        if len(text) >= _LIST_IS_CUT:
            keys, complete = keys[:-1], False
        found += [(realm, key) for key in dict.fromkeys(keys) if key]
    return found, complete


def usable_uuid(text: str) -> str:
    """`UnsafeValue` if it can stand in no command."""
    return commands.uuid(text)


def reported_member(node: HasApi, realm: str, key: str) -> str | None:
    """The queue's own uuid of that caller, if the call was in a queue before."""
    answer = node.api(commands.db_select(realm, key)).strip()
    return answer.removeprefix("member:") or None if answer.startswith("member:") else None


def strike_reported(node: HasApis, records: Sequence[tuple[str, str]]) -> None:
    """They are on disk here."""
    asked = [commands.db_delete(realm, key) for realm, key in records]
    for command, answer in zip(asked, node.apis(*asked) if asked else (), strict=True):
        succeeded(answer, command)
