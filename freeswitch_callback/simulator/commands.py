"""The API commands that FreeSWITCH answers, as far as anybody needs them here, with its exact replies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import lru_cache

from freeswitch_callback.simulator.applications import Applications
from freeswitch_callback.simulator.callcenter import Callcenter
from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.dial import Origin
from freeswitch_callback.simulator.originate import UsageError, parse_originate, separate
from freeswitch_callback.simulator.tables import (
    AGENT_COLUMNS,
    MEMBER_COLUMNS,
    QUEUE_COLUMNS,
    TIER_COLUMNS,
    Agent,
    Cells,
    Tier,
)

Reply = Callable[[str], None]
Rows = list[Cells]
NO_REPLY = "-ERR no reply\n"
NO_CHANNEL = "-ERR No such channel!\n"
LIST_LIMIT = 4095  # `db list` is cut there, in the middle of a key
USAGE = (
    "-USAGE: <call url> <exten>|&<application_name>(<app_args>) "
    "[<dialplan>] [<context>] [<cid_name>] [<cid_num>] [<timeout_sec>]\n"
)
MODULES = {
    "mod_callcenter",
    "mod_commands",
    "mod_dptools",
    "mod_event_socket",
    "mod_sofia",
    "mod_json_cdr",
    "mod_db",
    "mod_dialplan_xml",
}


class Store:
    """`db` (kept on disk) and `hash` (in memory): realm, key, value."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[tuple[str, str], str]] = {"db": {}, "hash": {}}

    def lose_memory(self) -> None:
        self._kept["hash"].clear()

    def run(self, where: str, argument: str) -> str:
        """`insert/realm/key/value`, `select/…`, `delete/…`, `exists/…`, `list/realm`."""
        kept = self._kept[where]
        action, realm, key, value = [*argument.split("/", 3), "", "", ""][:4]
        match action:
            case "insert":
                kept[realm, key] = value
                return "+OK"
            case "select":
                return kept.get((realm, key), "")
            case "delete":
                kept.pop((realm, key), None)
                return "+OK"
            case "exists":
                return str((realm, key) in kept).lower()
            case "list":
                return ",".join(key for one, key in kept if one == realm)[:LIST_LIMIT]
        return f"-USAGE: {where} [insert|delete|select|exists|list]/<realm>/<key>/<value>\n"

    def run_hook(self, command: str) -> None:
        """What a leg's `api_on_answer` and the like may do by itself: leave a mark, nothing else."""
        where, _, argument = command.partition(" ")
        if where in self._kept and argument.startswith("insert/"):
            self.run(where, argument)


def number(text: str) -> int:
    """As C's `atoi`: what is no number is 0."""
    return int(text) if text.isascii() and text.isdigit() else 0


class Commands:
    """Runs `api` commands. Replies may come later; nothing blocks."""

    def __init__(self, house: Applications, callcenter: Callcenter, store: Store, hostname: str) -> None:
        self._house = house
        self._switch = house.switch
        self._callcenter = callcenter
        self._store = store
        self._hostname = hostname
        self._started = self._switch.now()

    def boot(self) -> None:
        self._started = self._switch.now()

    def run(self, command: str, reply: Reply, *, text: str = "", job: str = "") -> None:
        """Run `command` (without `api`); `text` is the whole frame that it came in, `job` its Job-UUID."""
        name, _, arguments = command.strip().partition(" ")
        arguments = arguments.strip()
        if name == "originate":
            self._originate(arguments, reply, Origin("command", text or command, job))
        elif name == "msleep":
            self._switch.after(number(arguments) / 1000, lambda: reply(""))
        else:
            run = getattr(self, f"_api_{name}", None)
            if run is None:
                if name in ("system", "bg_system", "lua", "luarun", "python", "curl", "spawn"):
                    self._house.dialler.note(f"{name} {arguments}")
                reply(f"-ERR {name} Command not found!\n")
            else:
                reply(run(arguments))

    def _originate(self, arguments: str, reply: Reply, origin: Origin) -> None:
        try:
            wish = parse_originate(arguments, self._house.dialler.note)
        except UsageError:
            reply(USAGE)
            return
        if wish.extension.startswith("&") or wish.applications[:1] == (("system", ""),):
            self._house.dialler.note(wish.extension)

        def answered(leg: Channel) -> None:
            reply(f"+OK {leg.uuid}\n")
            self._house.run(leg, wish.applications, wish.extension, origin, wish.dialplan)

        self._house.dialler.dial(
            wish.dial,
            origin=origin,
            caller_id=(wish.cid_name, wish.cid_number),
            timeout=wish.timeout,
            on_success=answered,
            on_failure=lambda cause: reply(f"-ERR {cause}\n"),
        )

    # The core

    def _uptime(self) -> int:
        return int(self._switch.now() - self._started)

    def _api_status(self, _arguments: str) -> str:
        up = self._uptime()
        return (
            f"UP 0 years, {up // 86400} days, {up // 3600 % 24} hours, {up // 60 % 60} minutes, "
            f"{up % 60} seconds, 0 milliseconds, 0 microseconds\n"
            "FreeSWITCH (Version 1.10.12-release git a88d069 2024-08-02 21:02:27Z 64bit) is ready\n"
            f"{self._switch.sessions} session(s) since startup\n"
            f"{len(self._switch.channels)} session(s) - peak 4, last 5min 4 \n"
            "0 session(s) per Sec out of max 1000, peak 4, last 5min 4 \n5000 session(s) max\n"
            "min idle cpu 0.00/99.30\nCurrent Stack Size/Max 240K/8192K\n"
        )

    def _api_version(self, _arguments: str) -> str:
        return (
            "FreeSWITCH Version 1.10.12-release+git~20240802T210227Z~a88d069d6f~64bit (git a88d069 64bit)\n"
        )

    def _api_uptime(self, _arguments: str) -> str:
        return f"{self._uptime()}\n"

    def _api_strmicroepoch(self, _arguments: str) -> str:
        return str(int(self._switch.now() * 1e6))

    def _api_hostname(self, _arguments: str) -> str:
        return self._hostname

    def _api_echo(self, arguments: str) -> str:
        return arguments

    def _api_module_exists(self, arguments: str) -> str:
        return str(arguments in MODULES).lower()

    def _api_global_getvar(self, arguments: str) -> str:
        return {"core_uuid": self._switch.core_uuid, "hostname": self._hostname}.get(arguments, "")

    def _api_eval(self, arguments: str) -> str:
        return arguments.replace("${core_uuid}", self._switch.core_uuid).replace(
            "${hostname}", self._hostname
        )

    def _api_reload(self, arguments: str) -> str:
        if arguments.removeprefix("-f ") not in MODULES:
            return "+OK Reloading XML\n-ERR unloading module [No such module!]\n"
        if arguments.endswith("mod_callcenter"):
            self._callcenter.reload()
        return "+OK Reloading XML\n+OK module unloaded\n+OK module loaded\n"

    def _api_xml_locate(self, arguments: str) -> str:
        """Of the dialplan, the files that were installed: what their extensions are about."""
        if arguments.split(" ")[0] != "dialplan":
            return "-ERR can't find anything\n"
        rows = [
            f'<condition field="{condition.field}" expression="{condition.expression.pattern}"/>'
            for extension in self._house.dialplan
            for condition in extension.conditions
        ]
        return '<section name="dialplan">\n' + "\n".join(rows) + "\n</section>\n"

    def _api_reloadxml(self, _arguments: str) -> str:
        return "+OK [Success]\n"

    def _api_db(self, arguments: str) -> str:
        return self._store.run("db", arguments)

    def _api_hash(self, arguments: str) -> str:
        return self._store.run("hash", arguments)

    # Channels

    def _api_uuid_exists(self, arguments: str) -> str:
        return str(arguments in self._switch.channels).lower()

    def _api_uuid_kill(self, arguments: str) -> str:
        uuid, _, cause = arguments.partition(" ")
        leg = self._switch.channels.get(uuid)
        if leg is None:
            return NO_CHANNEL
        self._switch.hang_up(leg, cause or "NORMAL_CLEARING")
        return "+OK\n"

    def _api_uuid_getvar(self, arguments: str) -> str:
        uuid, _, name = arguments.partition(" ")
        leg = self._switch.channels.get(uuid)
        return NO_CHANNEL if leg is None else leg.variables.get(name, "_undef_")

    def _api_uuid_setvar(self, arguments: str) -> str:
        uuid, name, value = [*arguments.split(" ", 2), "", ""][:3]
        leg = self._switch.channels.get(uuid)
        if leg is None:
            return NO_CHANNEL
        leg.variables[name] = value
        return "+OK\n"

    def _api_uuid_bridge(self, arguments: str) -> str:
        legs = [self._switch.channels.get(uuid) for uuid in arguments.split(" ")]
        if len(legs) != 2 or legs[0] is None or legs[1] is None:
            return "-ERR Invalid uuid\n"
        for leg in legs:
            if leg is not None:
                self._switch.take_away(leg)
        self._switch.bridge(legs[0], legs[1], state=("CS_SOFT_EXECUTE", 3))
        return f"+OK {legs[1].uuid}\n"

    def _api_uuid_transfer(self, arguments: str) -> str:
        uuid, _, target = arguments.partition(" ")
        leg = self._switch.channels.get(uuid)
        if leg is None or not target:
            return NO_CHANNEL if target else "-USAGE: <uuid> <dest-exten> [<dialplan>] [<context>]\n"
        self._switch.take_away(leg)
        self._house.send_to(leg, target.split(" ")[0])
        return "+OK\n"

    def _api_hupall(self, arguments: str) -> str:
        for leg in list(self._switch.channels.values()):
            self._switch.hang_up(leg, arguments or "MANAGER_REQUEST")
        return f"+OK hangup all channels with cause {arguments or 'MANAGER_REQUEST'}\n"

    def _api_show(self, arguments: str) -> str:
        legs = list(self._switch.channels.values())
        if arguments == "channels as json":
            if not legs:
                return '{"row_count":0}'
            return json.dumps(
                {"row_count": len(legs), "rows": [self._channel_row(leg) for leg in legs]},
                separators=(",", ":"),
            )
        if arguments in ("calls count", "channels count"):
            number = (
                sum(1 for leg in legs if leg.bridge is not None) // 2 if "calls" in arguments else len(legs)
            )
            return f"\n{number} total.\n"
        if arguments == "channels" and legs:
            rows = [self._channel_row(leg) for leg in legs]
            table = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
            return "".join(f"{line}\n" for line in table) + f"\n{len(legs)} total.\n"
        return "\n0 total.\n"

    def _channel_row(self, leg: Channel) -> dict[str, str]:
        """As `show channels as json` writes it: a `+` of an outbound leg's name and destination is encoded
        (`duplicate_origination_uuid`)."""
        who, out = leg.profile, leg.direction == "outbound"
        destination = who.destination.replace("+", "%2B") if out else who.destination
        return {
            "uuid": leg.uuid,
            "direction": leg.direction,
            "created": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(leg.created)),
            "created_epoch": str(int(leg.created)),
            "name": leg.name.replace("+", "%2B") if out else leg.name,
            "state": leg.state,
            "cid_name": who.cid_name,
            "cid_num": who.cid_number,
            "ip_addr": who.network_addr,
            "dest": destination,
            "application": leg.variables.get("current_application", ""),
            "application_data": leg.variables.get("current_application_data", ""),
            "dialplan": who.dialplan,
            "context": who.context,
            "read_codec": "PCMU",
            "hostname": self._hostname,
            "presence_id": "",
            "callstate": leg.call_state,
            "callee_name": who.callee_name,
            "callee_num": who.callee_number,
            "call_uuid": leg.call_uuid if leg.call_uuid != leg.uuid or out else "",
            "initial_cid_name": who.orig_name,
            "initial_cid_num": who.orig_number,
            "initial_dest": destination,
            "initial_dialplan": who.dialplan,
            "initial_context": who.context,
        }

    # mod_callcenter

    def _api_callcenter_config(self, arguments: str) -> str:
        words = separate(arguments, " ")
        center = self._callcenter
        match words:
            case ["agent", "set", key, name, value]:
                return center.roster.set_agent(key, name, value)
            case ["agent", "get", key, name]:
                return center.roster.get_agent(key, name)
            case ["agent", "add", name, kind]:
                center.roster.agents.setdefault(name, Agent(name, "", type=kind))
                return "+OK\n"
            case ["agent", "del", name]:
                center.roster.agents.pop(name, None)
                return "+OK\n"
            case ["tier", "add", queue, agent, *place]:
                level, position = (number(one) for one in (*place, "1", "1")[:2])
                center.roster.tiers.append(Tier(queue, agent, level, position))
                return "+OK\n"
            case ["tier", "del", queue, agent]:
                center.roster.tiers = [
                    tier for tier in center.roster.tiers if (tier.queue, tier.agent) != (queue, agent)
                ]
                return "+OK\n"
            case ["queue", "load" | "reload" | "unload", _]:
                return "+OK\n"
            case ["queue", "count"]:
                return f"{len(center.queues)}\n"
        found = self._table(words)
        if found is None:
            return "-ERR Invalid!\n"
        columns, rows = found
        table = ["|".join(columns), *("|".join(cell or "" for cell in row) for row in rows)] if rows else []
        return "".join(f"{line}\n" for line in [*table, "+OK"])

    def _table(self, words: list[str]) -> tuple[tuple[str, ...], Rows] | None:
        center = self._callcenter
        match words:
            case ["agent", "list", *only]:
                return AGENT_COLUMNS, [
                    agent.row() for name, agent in center.roster.agents.items() if not only or name in only
                ]
            case ["tier", "list"]:
                return TIER_COLUMNS, [tier.row() for tier in center.roster.tiers]
            case ["queue", "list"]:
                return QUEUE_COLUMNS, [queue.row() for queue in center.queues.values()]
            case ["queue", "list", "tiers", queue]:
                return TIER_COLUMNS, [tier.row() for tier in center.roster.tiers if tier.queue == queue]
            case ["queue", "list", "members", queue]:
                center.discard()
                now = self._switch.now()
                return MEMBER_COLUMNS, [
                    member.row(now) for member in center.members if member.queue.name == queue
                ]
            case ["queue", "list", "agents", queue, *filters]:
                of_queue = {tier.agent for tier in center.roster.tiers if tier.queue == queue}
                status, state = (*filters, "", "")[:2]
                return AGENT_COLUMNS, [
                    agent.row()
                    for name, agent in center.roster.agents.items()
                    if name in of_queue and status in ("", agent.status) and state in ("", agent.state)
                ]
        return None

    def _api_json(self, arguments: str) -> str:
        try:
            request = json.loads(arguments)
        except ValueError:
            return "-ERR Invalid JSON!\n"
        data = request.get("data") or {}
        words = separate(str(data.get("arguments", "")), " ")
        if request.get("command") != "callcenter_config":
            request |= {"status": "error", "message": "The command provided does not exist", "response": None}
        else:
            if words[:2] == ["queue", "list"] and "queue_name" in data:
                words.append(str(data["queue_name"]))
            found = self._table(words)
            if found is None:
                request |= {"status": "error", "message": "Invalid arguments", "response": None}
            elif request.get("format") != "pretty":
                request.pop("response", None)  # it comes last
                return f"{_json(request | {'status': 'success'})[:-1]},{_json_rows(*found)}}}\n"
            else:
                columns, rows = found
                request |= {"status": "success", "response": [_object(columns, row) for row in rows]}
        if request.get("format") == "pretty":
            return json.dumps(request, indent="\t", separators=(",", ":\t"), ensure_ascii=False) + "\n"
        return _json(request) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _json_rows(columns: tuple[str, ...], rows: Rows) -> str:
    return f'"response":[{",".join(_json_row(columns, row) for row in rows)}]'


@lru_cache(maxsize=10_000)
def _json_row(columns: tuple[str, ...], row: Cells) -> str:
    return _json(_object(columns, row))


def _object(columns: tuple[str, ...], row: Cells) -> dict[str, str]:
    """A column that is NULL is left out."""
    return {column: cell for column, cell in zip(columns, row, strict=True) if cell is not None}
