"""The recorded CDRs as they would be written at another time, for another caller, by other settings."""

from __future__ import annotations

import base64
import json
import os
import re
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests import recordings

_UNSAFE = '\r\n #%&+:;<=>?@[\\]^`{|}"'


def record(
    name: str = "abandoned", *, ended: datetime | None = None, phone: str | None = None, **variables: str
) -> dict[str, Any]:
    """The CDR of a recorded story, as a call of its own; `ended` moves all its times."""
    cdr = recordings.cdr(name)
    cdr["variables"] |= {"uuid": str(uuid.uuid4())} | variables
    if phone is not None:
        for step in cdr["callflow"]:
            step["caller_profile"]["caller_id_number"] = phone
    return cdr if ended is None else _moved(cdr, int(ended.timestamp()) - int(cdr["variables"]["end_epoch"]))


def started(cdr: dict[str, Any]) -> datetime:
    created = int(cdr["callflow"][-1]["times"]["created_time"])
    return datetime.fromtimestamp(0).astimezone() + timedelta(microseconds=created)


def _moved(cdr: dict[str, Any], seconds: int) -> dict[str, Any]:
    def later(text: str, unit: int) -> str:
        return str(int(text) + seconds * unit) if int(text) else text

    variables = cdr["variables"]
    for name in variables:
        if name.endswith("_epoch"):
            variables[name] = later(variables[name], 1)
        elif name.endswith("_uepoch"):
            variables[name] = later(variables[name], 1_000_000)
    for step in cdr["callflow"]:
        step["times"] = {name: later(stamp, 1_000_000) for name, stamp in step["times"].items()}
    for application in cdr["app_log"]["applications"]:
        application["app_stamp"] = later(application["app_stamp"], 1_000_000)
    return cdr


def escaped(text: str) -> str:
    """As FreeSWITCH percent-encodes: what looks encoded already is left alone."""
    return re.sub(
        "(%[0-9A-F]{2})|(.)",
        lambda m: m[1] or "".join(f"%{b:02X}" if _bad(b) else chr(b) for b in m[2].encode()),
        text,
        flags=re.DOTALL,
    )


def _bad(byte: int) -> bool:
    return not 32 <= byte <= 126 or chr(byte) in _UNSAFE


def text(cdr: dict[str, Any]) -> str:
    """As cJSON prints it."""
    return json.dumps(cdr, separators=(",", ":"), ensure_ascii=False)


def as_json(cdr: dict[str, Any]) -> bytes:
    return text(cdr).encode("utf-8", "surrogateescape") + b"\n"


def as_base64(cdr: dict[str, Any]) -> bytes:
    return base64.b64encode(text(cdr).encode())


def as_form(cdr: dict[str, Any]) -> bytes:
    return escaped(text(cdr)).encode() + b"\n"


def as_post(cdr: dict[str, Any]) -> bytes:
    return b"cdr=" + as_form(cdr)


def write(folder: Path, cdr: dict[str, Any], *, age: float = 60.0, at: float | None = None) -> Path:
    """A file as mod_json_cdr would have written it `age` seconds ago."""
    path = folder / f"{cdr['variables']['uuid']}.cdr.json"
    path.write_bytes(as_json(cdr))
    changed = at if at is not None else path.stat().st_mtime - age
    os.utime(path, (changed, changed))
    return path
