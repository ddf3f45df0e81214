"""Values become the exact text of Event Socket commands. The one place that escapes, and mostly it refuses.

What FreeSWITCH runs if it is let (seen on a real 1.10.12): a newline starts a header, an empty line the next
command; in a number a comma, `|` or `:_:` starts another destination and `&app(…)` an application; in a
`{name=value}` a comma or a quote starts another variable, some of which run programs. So a value passes
because all of its characters are known to be harmless, never because the bad ones were taken out; anything
else is an `UnsafeValue` before a byte is sent. What a caller sent is not among the values at all.

A `Command` is the text of exactly one command. No socket and no clock in here.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Literal

from freeswitch_callback.errors import CommandFailed, UnsafeValue
from freeswitch_callback.esl.contact import Destination

Mode = Literal["agent-first", "client-first", "queue"]

MARKS = "callback"
"""The realm in FreeSWITCH's own database where the legs of a recall leave their marks."""


class Command(str):
    """The whole text of one command, the empty line at its end included; only this module makes any."""

    __slots__ = ()

    @property
    def label(self) -> str:
        """The command's first words, for messages and logs: never the password, nothing long."""
        line = self.partition("\n")[0]
        return "auth" if line.startswith("auth ") else line[:80]


def command(line: str, **headers: str) -> Command:
    """One command of one line and its headers (`job_uuid="…"` becomes `Job-UUID: …`)."""
    lines = [_printable(line, "a command")]
    for name, value in headers.items():
        title = "-".join("UUID" if word == "uuid" else word.title() for word in name.split("_"))
        lines.append(f"{title}: {_printable(value, title)}")
    return Command("\n".join(lines) + "\n\n")


def auth(password: str) -> Command:
    """The password goes out as it is: it may hold spaces and any sign, but no control character."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        # The message must not show it.
        raise UnsafeValue("the Event Socket password holds a control character (a newline at its end?)")
    return Command(f"auth {password}\n\n")


def event_plain(names: Iterable[str], subclasses: Iterable[str] = ()) -> Command:
    """Subscribe: `event plain HEARTBEAT … CUSTOM callcenter::info …`; CUSTOM comes by itself."""
    words = [_match(r"[A-Z_]+", name, "an event name") for name in names if name != "CUSTOM"]
    custom = [_match(r"[A-Za-z0-9_.:-]+", subclass, "an event subclass") for subclass in subclasses]
    if custom:
        words += ["CUSTOM", *custom]
    if not words:
        raise UnsafeValue("nothing to subscribe to: name at least one event")
    return command("event plain " + " ".join(words))


def api(text: str) -> Command:
    """Any API command that is known to be harmless as a whole (`uptime`)."""
    return command(f"api {text}")


# --- mod_callcenter -----------------------------------------------------------------------------------------


def reserve(agent: str) -> Command:
    """Compare-and-set: Waiting becomes Reserved, or `-ERR Agent not found!` (recording `agent_states`)."""
    return api(f"callcenter_config agent set state_if_waiting {name(agent)} Reserved")


def release(agent: str, to: Literal["Waiting", "Idle"] = "Waiting") -> Command:
    """Sets the state whatever it was: read first, release only what is still Reserved."""
    state = _match("Waiting|Idle", to, "the state to release an agent to")
    return api(f"callcenter_config agent set state {name(agent)} {state}")


def ready_at(agent: str, epoch: int) -> Command:
    """No call from the queue before this second (wrap-up)."""
    return api(f"callcenter_config agent set ready_time {name(agent)} {_number(epoch, 'ready_time')}")


def agent_list() -> Command:
    return _callcenter("agent list")


def agent_row(agent: str) -> Command:
    """One agent, in the printed form; the JSON form knows only all of them."""
    return api(f"callcenter_config agent list {name(agent)}")


def tier_list() -> Command:
    return _callcenter("tier list")


def queue_list() -> Command:
    return _callcenter("queue list")


def members(queue: str) -> Command:
    """Who waits in a queue, and who left it within `discard-abandoned-after` seconds."""
    return _callcenter("queue list members", queue_name=name(queue))


def _callcenter(arguments: str, **data: str) -> Command:
    """The JSON form: in the printed form a caller's name or a contact may hold the column separator."""
    request = {"command": "callcenter_config", "data": {"arguments": arguments, **data}}
    return api("json " + json.dumps(request, separators=(",", ":"), ensure_ascii=False))


# --- channels and marks -------------------------------------------------------------------------------------


def show_channels() -> Command:
    return api("show channels as json")


def core_uuid() -> Command:
    """Answers the uuid that FreeSWITCH gave itself when it started: another one means a restart."""
    return api("global_getvar core_uuid")


def strmicroepoch() -> Command:
    """Answers FreeSWITCH's time in microseconds since 1970 (1.10.12, mod_dptools)."""
    return api("strmicroepoch")


def uuid_exists(call_uuid: str) -> Command:
    """Answers `true` or `false`."""
    return api(f"uuid_exists {uuid(call_uuid)}")


def uuid_kill(call_uuid: str, cause: str = "NORMAL_CLEARING") -> Command:
    return api(f"uuid_kill {uuid(call_uuid)} {_match('[A-Z0-9_]+', cause, 'a hangup cause')}")


def db_insert(realm: str, key: str, value: str = "1") -> Command:
    return api(f"db insert/{_key(realm)}/{_key(key)}/{_key(value)}")


def db_select(realm: str, key: str) -> Command:
    """`-ERR no reply` = no such key."""
    return api(f"db select/{_key(realm)}/{_key(key)}")


def db_list(realm: str) -> Command:
    """The keys of a realm, with commas between; cut at 4,095 characters, in the middle of a key."""
    return api(f"db list/{_key(realm)}")


def db_delete(realm: str, key: str) -> Command:
    return api(f"db delete/{_key(realm)}/{_key(key)}")


# --- calling back -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Originate:
    """One recall's call, by `bgapi originate`; making one checks it, so one that exists can be sent: its
    `command`.

    `number` is the client's (`+` and digits, or the digits of an extension), `dial_string` the configured way
    out with `{number}` in it, `contact` the agent's as `agent list` gives it (not used in mode "queue"),
    `queue` used in mode "queue" only. `ring_timeout` and `wait` in seconds. `reason` and `missed_id` are our
    own words about the missed call. `connect`: an extension of the dialplan (and `:` and its context, else
    `default`) that the first leg goes through once it is answered, before the two are connected.

    The legs leave marks in FreeSWITCH's database (realm `callback`, keys `<call_uuid>.answered`, `.second`,
    `.ended`), from which the outcome can be read after a crash of ours.
    """

    job_uuid: str
    call_uuid: str
    entry: int
    mode: Mode
    number: str
    dial_string: str
    caller_id_number: str
    contact: str
    queue: str
    ring_timeout: int
    wait: int
    reason: str
    missed_id: int
    connect: str = ""
    command: Command = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", self._rendered())

    def _rendered(self) -> Command:
        if self.mode == "agent-first":
            first = self._first(self._to_agent(), {"sip_copy_custom_headers": "false"}) + self._agent()
            application, data = "bridge", self._second(self._to_client()) + self._client()
        elif self.mode == "client-first":
            first = self._first(self._to_client()) + self._client()
            application, data = "bridge", self._second(self._to_agent()) + self._agent()
        elif self.mode == "queue":
            # mod_callcenter makes the agent's leg: the mark travels to it as an exported variable.
            exported = {
                # Who the member is: else FreeSWITCH may give the queue the gateway's or the context's name.
                "origination_callee_id_number": phone(self.number),
                "cc_export_vars": "nolocal:api_on_answer",
                "nolocal:api_on_answer": self._mark("second"),
            }
            first = self._first(self._to_client(), exported) + self._client()
            application, data = "callcenter", name(self.queue)
        else:
            raise UnsafeValue(f"no such mode: {self.mode!r:.40}; agent-first, client-first or queue")
        then = self._through_the_dialplan(application, data) if self.connect else f"&{application}({data})"
        return command(f"bgapi originate {first} {then}", job_uuid=uuid(self.job_uuid))

    def _through_the_dialplan(self, application: str, data: str) -> str:
        """The inline dialplan: first their extension, then our application, whose text stays ours.

        No name and no destination holds a `|`; quotes inside would end the one around all of it, and within
        that one spaces need none (1.10.12)."""
        extension, _, context = self.connect.partition(":")
        first = f"{_extension(extension)} XML {_extension(context or 'default')}"
        data = data.replace("'", "")
        if "|" in data:
            raise UnsafeValue(f"not usable behind {self.connect}: {data!r:.200}")
        return f"'m:|:execute_extension:{first}|{application}:{data}' inline"

    def _first(self, shown: Mapping[str, str], more: Mapping[str, str] | None = None) -> str:
        marks = {"api_on_answer": self._mark("answered"), "api_hangup_hook": self._mark("ended")}
        named = {"origination_uuid": uuid(self.call_uuid)}
        connect = {"callback_mode": self.mode} if self.connect else {}
        return _variables({**named, **self._both_legs(), **connect, **shown, **(more or {}), **marks})

    def _second(self, shown: Mapping[str, str]) -> str:
        return _variables({**self._both_legs(), **shown, "api_on_answer": self._mark("second")})

    def _both_legs(self) -> dict[str, str]:
        return {
            "callback_entry": _number(self.entry, "entry"),
            "ignore_early_media": "true",  # or a 183 would count as answered
            "ignore_display_updates": "true",  # or each is shown the other's number once bridged
            "originate_timeout": _number(self.ring_timeout, "ring_timeout"),
        }

    def _to_client(self) -> dict[str, str]:
        """Our number as the name, too: else it is the agent's extension (seen on a running FreeSWITCH)."""
        ours = phone(self.caller_id_number)
        return {"origination_caller_id_name": ours, "origination_caller_id_number": ours}

    def _to_agent(self) -> dict[str, str]:
        """What the operator's phone shows.

        FreeSWITCH copies `sip_h_` from the first leg to the second (recording
        `recall_agent_first_client_hangs_up`); agent-first asks it not to: they are not the client's business.
        """
        reason = _match("[a-z_]{1,30}", self.reason, "the reason of a missed call")
        return {
            "origination_caller_id_name": f"Recall {duration(self.wait)} {reason.replace('_', ' ')}",
            "origination_caller_id_number": phone(self.number),
            "sip_h_X-Callback-Id": _number(self.missed_id, "missed_id"),
            "sip_h_X-Callback-Wait": _number(self.wait, "wait"),
            "sip_h_X-Callback-Reason": reason,
        }

    def _client(self) -> str:
        number = phone(self.number)
        if self.dial_string.count("{number}") != 1:
            raise UnsafeValue(f"dial_string needs {{number}} once: {self.dial_string!r:.200}")
        return Destination.strict(self.dial_string.replace("{number}", number)).render()

    def _agent(self) -> str:
        return Destination.of_contact(self.contact).render()

    def _mark(self, event: str) -> str:
        return f"db insert/{MARKS}/{uuid(self.call_uuid)}.{event}/1"


def _variables(values: Mapping[str, str]) -> str:
    """`{…}` in front of a destination: fixed values only (`${…}` is expanded too early and then lost)."""
    rendered = []
    for variable, value in values.items():
        # Every value was built above from checked parts; this holds whatever changes there.
        _match(r"[A-Za-z0-9_.:/+ -]*", value, variable)
        rendered.append(f"{variable}='{value}'" if " " in value else f"{variable}={value}")
    return "{" + ",".join(rendered) + "}"


# --- values -------------------------------------------------------------------------------------------------


def name(value: str) -> str:
    """An agent's or a queue's name (`1001@default`, a UUID, letters of any script)."""
    if not _usable(value):
        raise UnsafeValue(f"not usable as the name of an agent or queue: {value!r:.100}")
    return value


@lru_cache(maxsize=20_000)
def _usable(value: str) -> bool:
    return 1 <= len(value) <= 255 and ":_:" not in value and all(_harmless(sign) for sign in value)


def _harmless(sign: str) -> bool:
    return sign in "@._-+:/#*~!=&" or unicodedata.category(sign)[0] in "LNM"


def phone(value: str) -> str:
    """E.164 (`+` and up to 15 digits), or the digits of an extension of the house."""
    return _match(r"\+[1-9][0-9]{1,14}|[0-9]{1,15}", value, "a number to call or to show")


def duration(seconds: int) -> str:
    """How long somebody waited, for a phone's display: `45s`, `2m37s`, `1h02m`."""
    whole = int(_number(seconds, "wait"))
    minutes, rest = divmod(whole, 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


_compiled = cache(re.compile)
"""As `re` does it, without its four calls each time."""


def _match(pattern: str, value: str, what: str) -> str:
    if not isinstance(value, str) or not _compiled(pattern).fullmatch(value):
        raise UnsafeValue(f"not usable as {what}: {value!r:.100}")
    return value


def uuid(value: str) -> str:
    """Of a channel or a job."""
    return _match("[A-Za-z0-9-]{1,64}", value, "a uuid")


def _extension(value: str) -> str:
    return _match("[A-Za-z0-9_.-]{1,64}", value, "an extension of the dialplan, or its context")


def _key(value: str) -> str:
    return _match("[A-Za-z0-9_.-]{1,128}", value, "a realm, key or value in FreeSWITCH's database")


def _number(value: int, what: str) -> str:
    if type(value) is not int or not 0 <= value < 2**63:
        raise UnsafeValue(f"not usable as {what} (a whole number, not negative): {value!r:.100}")
    return str(value)


def _printable(text: str, what: str) -> str:
    # isprintable refuses control characters, every kind of line separator and lone surrogates.
    if not text.isprintable() or len(text) > 16_000:
        raise UnsafeValue(f"{what} holds a control character or is too long: {text!r:.100}")
    return text


# --- answers ------------------------------------------------------------------------------------------------


def succeeded(answer: str, asked: Command) -> str:
    """What stands behind `+OK`, or the answer itself if it says neither; `CommandFailed` on `-ERR`."""
    text = answer.strip()
    if text.startswith("-ERR"):
        raise CommandFailed(f"FreeSWITCH refused {asked.label!r}: {text[4:].strip() or 'no reason given'}")
    return text.removeprefix("+OK").strip()
