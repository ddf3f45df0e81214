"""One leg of a call, and the headers that its events carry.

Which header appears when, and with which value, is read off the recordings (`answered`, `direct_answered`,
`reserved_recall_client_first`, `intercepted_from_the_queue`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from freeswitch_callback.simulator.events import encode, header

Q850 = {
    "NONE": 0,
    "UNALLOCATED_NUMBER": 1,
    "NORMAL_CLEARING": 16,
    "ORIGINATOR_CANCEL": 16,
    "ALLOTTED_TIMEOUT": 16,
    "LOSE_RACE": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "SUBSCRIBER_ABSENT": 20,
    "CALL_REJECTED": 21,
    "DESTINATION_OUT_OF_ORDER": 27,
    "NORMAL_CIRCUIT_CONGESTION": 34,
    "NORMAL_TEMPORARY_FAILURE": 41,
}
# SIP status and phrase with which a cause refuses an INVITE, and what the other side makes of it.
SIP_STATUS = {
    "UNALLOCATED_NUMBER": (404, "Not Found"),
    "USER_BUSY": (486, "Busy Here"),
    "CALL_REJECTED": (603, "Decline"),
    "NORMAL_TEMPORARY_FAILURE": (503, "Service Unavailable"),
    "NORMAL_CIRCUIT_CONGESTION": (503, "Service Unavailable"),
    "ORIGINATOR_CANCEL": (487, "CANCEL"),
}
TEMPORARILY_UNAVAILABLE = (480, "Temporarily Unavailable")

# Headers that every channel has and nobody here varies: an event is as long to parse as a real one.
_CODECS = "".join(
    f"Channel-{way}-Codec-{what}: {value}\n"
    for way in ("Read", "Write")
    for what, value in (("Name", "PCMU"), ("Rate", "8000"), ("Bit-Rate", "64000"))
).rstrip("\n")
_MEDIA = "\n".join(
    f"variable_{name}: {value}"
    for name, value in {
        "video_media_flow": "disabled",
        "text_media_flow": "disabled",
        "sip_local_network_addr": "127.0.0.1",
        "sip_network_ip": "127.0.0.1",
        "sip_via_protocol": "udp",
        "sip_allow": "INVITE,%20ACK,%20BYE,%20CANCEL,%20OPTIONS,%20MESSAGE,%20INFO,%20UPDATE,%20NOTIFY",
        "sip_user_agent": "FreeSWITCH-mod_sofia/1.10.12-release%2Bgit~20240802T210227Z~a88d069d6f~64bit",
        "max_forwards": "70",
        "switch_r_sdp": "v%3D0%0D%0Ao%3DFreeSWITCH%201795355282%201795355283%20IN%20IP4%20127.0.0.1%0D%0A"
        "s%3DFreeSWITCH%0D%0Ac%3DIN%20IP4%20127.0.0.1%0D%0At%3D0%200%0D%0Am%3Daudio%2023398%20RTP/AVP%200%20101"
        "%0D%0Aa%3Drtpmap%3A0%20PCMU/8000%0D%0Aa%3Drtpmap%3A101%20telephone-event/8000%0D%0Aa%3Dptime%3A20%0D%0A",
        "ep_codec_string": "CORE_PCM_MODULE.PCMU%408000h%4020i%4064000b",
        "rtp_use_codec_string": "PCMU",
        "remote_media_ip": "127.0.0.1",
        "remote_media_port": "23398",
        "rtp_use_codec_name": "PCMU",
        "rtp_use_codec_rate": "8000",
        "rtp_use_codec_ptime": "20",
        "rtp_use_codec_channels": "1",
        "rtp_last_audio_codec_string": "PCMU%408000h%4020i%401c",
        "read_codec": "PCMU",
        "original_read_codec": "PCMU",
        "read_rate": "8000",
        "original_read_rate": "8000",
        "write_codec": "PCMU",
        "write_rate": "8000",
        "dtmf_type": "rfc2833",
    }.items()
)


class Variables(dict[str, str]):
    """A channel's variables, each with its line for events, encoded when it is set and not at every event."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, str] = {}

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name, value)
        self._lines[name] = f"variable_{name}: {encode(value)}"

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        del self._lines[name]

    def drop(self, name: str) -> None:
        if name in self:
            del self[name]

    def set(self, **values: object) -> None:
        for name, value in values.items():
            self[name] = str(value)

    def lines(self) -> str:
        return "\n".join(self._lines.values())


@dataclass(slots=True)
class CallerProfile:
    """`Caller-*` of one leg (and `Other-Leg-*` of its peer)."""

    cid_name: str
    cid_number: str
    destination: str
    context: str = "default"
    source: str = "mod_sofia"
    username: str = ""
    dialplan: str = ""
    orig_name: str = ""
    orig_number: str = ""
    callee_name: str = ""
    callee_number: str = ""
    ani: str = ""
    rdnis: str = ""
    network_addr: str = ""
    transfer_source: str = ""


@dataclass(slots=True, eq=False)
class Bridge:
    """Two legs together. `a` is the one whose CHANNEL_BRIDGE and CHANNEL_UNBRIDGE are sent; `afterwards` is
    what it does when `b` has left."""

    a: Channel
    b: Channel
    afterwards: Callable[[], object]
    talked_from: float = 0.0
    over: bool = False

    def other(self, leg: Channel) -> Channel:
        return self.b if leg is self.a else self.a


def _nothing(*_: object) -> None:
    """A channel does nothing by itself."""


@dataclass(slots=True, eq=False)
class Channel:
    """A leg. Times are seconds since 1970, 0 = not yet. `silent`: belongs to a world that sends no events."""

    uuid: str
    direction: str  # inbound | outbound
    name: str
    profile: CallerProfile
    created: float
    silent: bool = False
    party: tuple[str, str] = (
        "",
        "",
    )  # ("number", "+1202…"), ("agent", "1001@default"), ("phone", "busy7001")
    call_uuid: str = ""
    answered: float = 0.0
    progress: float = 0.0
    bridged: float = 0.0
    ended: float = 0.0
    cause: str = ""
    disposition: str = ""  # sip_hangup_disposition, which is set after CHANNEL_HANGUP was sent
    state: str = "CS_INIT"
    number: int = 2
    call_state: str = "DOWN"
    answer_state: str = "ringing"
    hit_dialplan: bool = False
    other: tuple[str, Channel] | None = None  # ("originator" | "originatee", the leg)
    variables: Variables = field(default_factory=Variables)
    wire: Channel | None = None  # the other end of the SIP dialogue
    bridge: Bridge | None = None
    on_ringing: Callable[[], object] = _nothing
    on_early: Callable[[], object] = _nothing
    on_answer: Callable[[], object] = _nothing
    on_connected: Callable[[], object] = _nothing  # talks to somebody, both answered
    on_hangup: Callable[[], object] = _nothing  # between CHANNEL_HANGUP and CHANNEL_HANGUP_COMPLETE
    on_complete: Callable[[], object] = _nothing
    on_break: Callable[[], object] = _nothing  # taken out of its application
    on_key: Callable[[str], object] = _nothing

    def __post_init__(self) -> None:
        self.call_uuid = self.call_uuid or self.uuid
        self.hit_dialplan = self.direction == "inbound"

    @property
    def up(self) -> bool:
        return not self.cause

    def set_application(self, name: str, data: str) -> None:
        self.variables.drop("current_application_data")
        if data:
            self.variables["current_application_data"] = data
        self.variables["current_application"] = name

    def micros(self, moment: float) -> int:
        return round(moment * 1_000_000)

    def flip_caller_id(self) -> None:
        """An outbound leg that begins an application of its own shows the callee as the caller
        (`channel_cid_flipped`, e.g. `reserved_recall_client_first`: CHANNEL_BRIDGE)."""
        who = self.profile
        if who.cid_name:
            self.variables["pre_transfer_caller_id_name"] = who.cid_name
        self.variables.set(pre_transfer_caller_id_number=who.cid_number, channel_cid_flipped="yes")
        who.cid_name, who.callee_name = who.callee_name, who.cid_name
        who.cid_number, who.callee_number = who.callee_number, who.cid_number
        self.hit_dialplan = True

    def lines(self) -> list[str]:
        """The headers of an event about this leg."""
        uuid, name = self.uuid, encode(self.name)
        lines = [
            f"Channel-State: {self.state}\nChannel-Call-State: {self.call_state}\n"
            f"Channel-State-Number: {self.number}\nChannel-Name: {name}\nUnique-ID: {uuid}\n"
            f"Call-Direction: {self.direction}\nPresence-Call-Direction: {self.direction}\n"
            f"Channel-HIT-Dialplan: {str(self.hit_dialplan).lower()}\nChannel-Call-UUID: {self.call_uuid}\n"
            f"Answer-State: {self.answer_state}",
        ]
        if self.cause:
            lines.append(f"Hangup-Cause: {self.cause}")
        lines.append(_CODECS)
        lines.append(_profile_lines("Caller", self, self.direction, times=True))
        if self.other is not None:
            role, leg = self.other
            lines.append(f"Other-Type: {role}")
            lines.append(_profile_lines("Other-Leg", leg, "inbound", times=role == "originatee"))
        lines.append(_MEDIA)
        lines.append(self.variables.lines())
        return lines

    def account(self, end: float) -> None:
        """Set the variables that only CHANNEL_HANGUP_COMPLETE has: cause, epochs, durations."""
        moments = {
            "start": self.created,
            "profile_start": self.created,
            "answer": self.answered,
            "bridge": self.bridged,
            "progress": self.progress,
            "end": end,
        }
        self.variables.set(
            hangup_cause=self.cause,
            hangup_cause_q850=Q850.get(self.cause, 16),
            digits_dialed=self.variables.get("cc_exit_key", "none"),
        )
        for what, moment in moments.items():
            if moment:
                stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
                self.variables[f"{what}_stamp"] = stamp
        for what, moment in moments.items():
            self.variables[f"{what}_epoch"] = str(int(moment))
            self.variables[f"{what}_uepoch"] = str(self.micros(moment))
        talk = end - self.answered if self.answered else 0.0
        self.variables.set(
            last_app=self.variables.get("current_application", ""),
            last_arg=self.variables.get("current_application_data", ""),
            caller_id=f'"{self.profile.cid_name}" <{self.profile.cid_number}>',
            duration=int(end) - int(self.created),
            billsec=int(end) - int(self.answered) if self.answered else 0,
            mduration=round((end - self.created) * 1000),
            billmsec=round(talk * 1000),
            uduration=self.micros(end) - self.micros(self.created),
            billusec=round(talk * 1_000_000),
        )
        for name in ("last_app", "last_arg"):
            if not self.variables[name]:
                self.variables.drop(name)


def _profile_lines(prefix: str, leg: Channel, logical: str, *, times: bool) -> str:
    who = leg.profile
    optional = (
        ("Username", who.username),
        ("Dialplan", who.dialplan),
        ("Caller-ID-Name", who.cid_name),
        ("Caller-ID-Number", who.cid_number),
        ("Orig-Caller-ID-Name", who.orig_name),
        ("Orig-Caller-ID-Number", who.orig_number),
        ("Callee-ID-Name", who.callee_name),
        ("Callee-ID-Number", who.callee_number),
        ("Network-Addr", who.network_addr),
        ("ANI", who.ani),
        ("Destination-Number", who.destination),
        ("RDNIS", who.rdnis),
        ("Transfer-Source", who.transfer_source),
    )
    lines = [f"{prefix}-Direction: {leg.direction}", f"{prefix}-Logical-Direction: {logical}"]
    lines += [header(f"{prefix}-{name}", value) for name, value in optional if value]
    lines.append(
        f"{prefix}-Unique-ID: {leg.uuid}\n{prefix}-Source: {who.source}\n"
        f"{prefix}-Context: {encode(who.context)}\n"
        f"{prefix}-Channel-Name: {encode(leg.name)}"
    )
    moments = (
        ("Profile-Created", leg.created),
        ("Channel-Created", leg.created),
        ("Channel-Answered", leg.answered),
        ("Channel-Progress", leg.progress),
        ("Channel-Progress-Media", 0.0),
        ("Channel-Hangup", leg.ended),
        ("Channel-Transfer", 0.0),
        ("Channel-Resurrect", 0.0),
        ("Channel-Bridged", leg.bridged),
    )
    lines += [
        f"{prefix}-{name}-Time: {round(moment * 1_000_000) if times else 0}" for name, moment in moments
    ]
    lines.append(
        f"{prefix}-Screen-Bit: true\n{prefix}-Privacy-Hide-Name: false\n{prefix}-Privacy-Hide-Number: false"
    )
    return "\n".join(lines)
