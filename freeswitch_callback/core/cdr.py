"""From a mod_json_cdr record to the note on a leg that `legs.verdict` judges.

A CDR has the variables of one leg as they were at its end, the profiles it went through (`callflow`, newest
first) and the applications it ran with microsecond stamps (`app_log`): the joins before the last one are only
there, because `cc_*` speaks of the last stay. Whom the queue offered the call to is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from freeswitch_callback.core.facts import Missed, Served
from freeswitch_callback.core.legs import (
    OWN_CALL,
    CaptureRules,
    Leg,
    Stay,
    read_hook,
    read_last_stay,
    read_talk,
    verdict,
)
from freeswitch_callback.errors import ProtocolError


def from_cdr(cdr: Mapping[str, Any], node: str, rules: CaptureRules) -> Missed | Served | None:
    """The fact in one record, None if it is no call of ours; `ProtocolError` if it is no CDR."""
    try:
        return verdict(node, _read(cdr, rules), rules)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise ProtocolError(f"not a record of mod_json_cdr: {type(error).__name__}: {error}") from error


def _read(cdr: Mapping[str, Any], rules: CaptureRules) -> Leg:
    values = {str(name): unquote(str(value)) for name, value in cdr["variables"].items()}
    flow = cdr["callflow"]
    first, last = flow[-1]["caller_profile"], flow[0]["caller_profile"]
    times = flow[0]["times"]
    leg = Leg(
        uuid=values["uuid"],
        from_the_start=True,
        inbound=values.get("direction") == "inbound",
        own=OWN_CALL in values,
        phone=first["caller_id_number"],
        caller_name=first["caller_id_name"],
        created=int(flow[-1]["times"]["created_time"]) / 1e6,
        context=last["context"],
        destination=last["destination_number"],
        ended=float(values["end_epoch"]),
        ended_for_good=True,
        hangup_cause=values.get("hangup_cause", ""),
        bridge_cause=values.get("last_bridge_hangup_cause") or values.get("originate_disposition", ""),
        extra={name: values[name] for name in rules.variables if name in values},
    )
    headers = {f"variable_{name}": value for name, value in values.items()}
    headers["Caller-Destination-Number"] = first["destination_number"]
    leg.calledid = next((headers[name] for name in rules.called_number if headers.get(name)), "")
    read_hook(leg, values.get)
    leg.stays.extend(_earlier_stays(cdr, int(values.get("cc_queue_joined_epoch") or 0)))
    read_last_stay(leg, values.get)
    bridged = int(times["bridged_time"]) / 1e6 if int(times["answered_time"]) else 0.0
    read_talk(leg, values.get, bridged)
    return leg


def _earlier_stays(cdr: Mapping[str, Any], last_joined: int) -> list[Stay]:
    """The stays before the one that the variables tell of; each lasted until the next application began."""
    applications = cdr.get("app_log", {}).get("applications", [])
    stamps = [int(a["app_stamp"]) / 1e6 for a in applications]
    stays = [
        Stay(a["app_data"].split()[0], "", int(began), began, int(ended))
        for a, began, ended in zip(applications, stamps, stamps[1:], strict=False)
        if a["app_name"] == "callcenter" and a["app_data"].strip()
    ]
    # The application is run a moment before the member joins, so the last stay can bear both seconds.
    return [s for s in stays if s.joined < last_joined and (s.left or 0) <= last_joined]
