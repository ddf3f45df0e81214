"""What becomes of one attempt, read off its events.

`bgapi originate` answers when the *first* leg does (BACKGROUND_JOB) and says nothing of the second. That one
is seen by its own CHANNEL_CREATE, CHANNEL_ANSWER and the bridge; the end is CHANNEL_HANGUP of the first leg,
whose `last_bridge_hangup_cause` tells how the second ended (recordings `reserved_recall_*`, `recall_*`,
`originate_*`).

| Mode         | First leg | Second leg                                  |
|--------------|-----------|---------------------------------------------|
| agent-first  | agent     | client                                      |
| client-first | client    | agent                                       |
| queue        | client    | the agent whom the queue picks              |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from freeswitch_callback.core.facts import Event, Mode, Outcome

FAULTS = frozenset(
    {
        "INVALID_GATEWAY",
        "INVALID_PROFILE",
        "GATEWAY_DOWN",
        "CHAN_NOT_IMPLEMENTED",
        "INVALID_URL",
    }
)
"""Causes that never made the client's phone ring: the configuration or the trunk is at fault."""

_CLIENT = {
    "USER_BUSY": Outcome.BUSY,
    "NO_ANSWER": Outcome.NO_ANSWER,
    "NO_USER_RESPONSE": Outcome.NO_ANSWER,
    "ALLOTTED_TIMEOUT": Outcome.NO_ANSWER,
    "ORIGINATOR_CANCEL": Outcome.NO_ANSWER,
    "UNALLOCATED_NUMBER": Outcome.UNALLOCATED,
    "CALL_REJECTED": Outcome.CLIENT_REJECTED,
}

_NEIGHBOURS = 2.0
"""Seconds by which events that belong together may seem to be in the wrong order."""

_REFUSED = frozenset(_CLIENT) - {"ORIGINATOR_CANCEL"}
"""How a client's leg ends that there was and that nobody took."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt has come. Times are seconds of FreeSWITCH's clock.

    `answered`: the first leg; `second_answered`: the second; `connected`: both, and bridged; `ended`: the
    first leg is gone, or never was. `client_rang`: the attempt counts against the client.
    """

    mode: Mode
    call_uuid: str
    job_uuid: str
    second: str | None = None
    answered: float | None = None
    second_answered: float | None = None
    bridged: float | None = None
    ended: float | None = None
    client_rang: bool = False
    operator: str | None = None
    cause: str = ""
    second_cause: str = ""
    queue_gave_up: bool = False

    @property
    def connected(self) -> float | None:
        if self.bridged is None or self.second_answered is None:
            return None
        return max(self.bridged, self.second_answered)

    @property
    def clocks_disagree(self) -> bool:
        """Whether the talk ended before it began: one of both was told by another clock, while nobody
        listened, and how long they talked cannot be known."""
        return self.talked < -_NEIGHBOURS

    @property
    def talked(self) -> float:
        """Seconds that both sides were connected."""
        return self.ended - self.connected if self.ended and self.connected else 0.0


_CALLS = ("Unique-ID", "Other-Leg-Unique-ID", "variable_cc_member_session_uuid")
_CALLS_OF = {
    "CUSTOM": ("CC-Member-Session-UUID",),
    "CHANNEL_BRIDGE": ("Bridge-A-Unique-ID", "Bridge-B-Unique-ID"),
}


def calls_in(event: Event) -> set[str]:
    """The calls that an event is about; `advance` learns nothing from one about others. A BACKGROUND_JOB
    names its job instead."""
    names = _CALLS_OF.get(event.name, _CALLS)
    return {uuid for name in names if (uuid := event.get(name))}


def advance(progress: Progress, event: Event) -> Progress:
    """The attempt after this event; the same object where the event is not about it, or nothing new."""
    if progress.ended is not None:
        return progress
    if event.name == "BACKGROUND_JOB":
        return _job(progress, event) if event.get("Job-UUID") == progress.job_uuid else progress
    if event.name == "CUSTOM":
        return _callcenter(progress, event)
    if event.name == "CHANNEL_BRIDGE":
        return _bridge(progress, event)
    uuid = event.get("Unique-ID")
    if uuid == progress.call_uuid:
        return _first_leg(progress, event)
    if uuid is not None and (uuid == progress.second or _is_second(progress, event)):
        return _second_leg(replace(progress, second=uuid), event)
    return progress


# A leg that is refused at once is told of by its HANGUP first and by its CREATE after it.
_TELLS_OF_A_LEG = frozenset({"CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_HANGUP"})


def _is_second(progress: Progress, event: Event) -> bool:
    if event.name not in _TELLS_OF_A_LEG or event.get("Call-Direction") != "outbound":
        return False
    return progress.call_uuid in (
        event.get("Other-Leg-Unique-ID"),
        event.get("variable_cc_member_session_uuid"),
        event.get("variable_originator"),
    )


def _job(progress: Progress, event: Event) -> Progress:
    result = event.body.decode("utf-8", "replace").strip()
    if result.startswith("+OK"):
        return replace(progress, answered=progress.answered or event.timestamp)
    cause = result.removeprefix("-ERR").strip() or "UNKNOWN"
    refused = progress.mode is not Mode.AGENT_FIRST and cause in _REFUSED
    return replace(progress, ended=event.timestamp, cause=cause, client_rang=progress.client_rang or refused)


def _first_leg(progress: Progress, event: Event) -> Progress:
    match event.name:
        case "CHANNEL_CREATE" if progress.mode is not Mode.AGENT_FIRST:
            return replace(progress, client_rang=True)
        case "CHANNEL_ANSWER":
            return replace(progress, answered=progress.answered or event.timestamp)
        case "CHANNEL_HANGUP" | "CHANNEL_HANGUP_COMPLETE":
            cause = event.get("Hangup-Cause") or ""
            second_cause = event.get("variable_last_bridge_hangup_cause") or progress.second_cause
            agent_was_there = progress.mode is Mode.AGENT_FIRST and progress.answered is not None
            if agent_was_there and not second_cause and cause in _REFUSED:
                second_cause = cause  # an agent who hangs up gives NORMAL_CLEARING: this is the bridge's
            # The other leg's answer may come late, order is kept within a leg only. Both legs ignore early
            # media, so a bridge that did not end like a refusal was a conversation.
            talked = progress.bridged if second_cause not in _CLIENT else None
            return replace(
                progress,
                ended=event.timestamp,
                cause=cause,
                client_rang=progress.client_rang or _rang(progress, second_cause),
                second_cause=second_cause,
                second_answered=progress.second_answered or talked,
            )
    return progress


def _rang(progress: Progress, second_cause: str) -> bool:
    """Whether the client's phone rang, now that the first leg is gone; its CREATE may still be to come."""
    if progress.mode is not Mode.AGENT_FIRST:
        return True
    return progress.answered is not None and second_cause in _REFUSED


def _bridge(progress: Progress, event: Event) -> Progress:
    """The first conversation counts: who is passed on to a colleague was reached all the same.

    Whoever picks the client up, out of the queue or from a ringing phone, bridges under their own leg's name.
    """
    legs = (event.get("Bridge-A-Unique-ID"), event.get("Bridge-B-Unique-ID"))
    if progress.call_uuid not in legs or progress.bridged is not None:
        return progress
    other = next((leg for leg in legs if leg != progress.call_uuid), None)
    picked_up = progress.second is not None and other != progress.second
    return replace(
        progress,
        second=other,
        bridged=event.timestamp,
        client_rang=True,  # whatever of it we have not heard
        second_answered=event.timestamp if picked_up else progress.second_answered,
        operator=event.get("variable_cc_agent") or progress.operator,
    )


def _second_leg(progress: Progress, event: Event) -> Progress:
    match event.name:
        case "CHANNEL_CREATE":
            return replace(progress, client_rang=progress.client_rang or progress.mode is Mode.AGENT_FIRST)
        case "CHANNEL_ANSWER":
            operator = event.get("variable_cc_agent") or progress.operator
            answered = progress.second_answered or event.timestamp
            return replace(progress, second_answered=answered, operator=operator)
        case "CHANNEL_HANGUP" if progress.connected is None:
            rang = progress.client_rang or progress.mode is Mode.AGENT_FIRST
            return replace(progress, second_cause=event.get("Hangup-Cause") or "", client_rang=rang)
        case "CHANNEL_HANGUP" if progress.mode is Mode.CLIENT_FIRST:
            # The agent is gone; a client who lives on was transferred, and is not our call any more.
            return replace(progress, ended=event.timestamp, cause=event.get("Hangup-Cause") or "")
    return progress


def _callcenter(progress: Progress, event: Event) -> Progress:
    if event.get("CC-Member-Session-UUID") != progress.call_uuid:
        return progress
    match event.get("CC-Action"):
        case "agent-offering" | "bridge-agent-start":
            return replace(progress, operator=event.get("CC-Agent"))
        case "member-queue-end" if "TIMEOUT" in (event.get("CC-Cancel-Reason") or ""):
            return replace(progress, queue_gave_up=True)
    return progress


def outcome(progress: Progress) -> tuple[Outcome, str] | None:
    """What became of it, with FreeSWITCH's word for it; None while it goes on."""
    if progress.ended is None:
        return None
    if progress.connected is not None:
        return Outcome.CONNECTED, progress.cause
    if progress.answered is None:
        if progress.mode is Mode.AGENT_FIRST:
            return _agent(progress.cause), progress.cause
        return _CLIENT.get(progress.cause, Outcome.FAILED), progress.cause
    if progress.mode is Mode.AGENT_FIRST:
        cause = progress.second_cause or progress.cause
        if cause == "ORIGINATOR_CANCEL" or not progress.second_cause:  # the agent hung up meanwhile
            return (Outcome.FAILED if cause in FAULTS else Outcome.AGENT_DECLINED), cause
        return _CLIENT.get(cause, Outcome.FAILED), cause
    if progress.mode is Mode.QUEUE:
        return (Outcome.AGENT_NO_ANSWER if progress.queue_gave_up else Outcome.CLIENT_HUNG_UP), progress.cause
    if progress.second_cause in ("", "ORIGINATOR_CANCEL"):
        return Outcome.CLIENT_HUNG_UP, progress.cause
    return _agent(progress.second_cause), progress.second_cause


def _agent(cause: str) -> Outcome:
    return Outcome.AGENT_DECLINED if cause == "CALL_REJECTED" else Outcome.AGENT_NO_ANSWER
