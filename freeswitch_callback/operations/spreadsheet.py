"""Rows as CSV that is safe to open in a spreadsheet: names and numbers come from strangers, and no cell of
theirs is a formula."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

EXPORTED = (
    *("id", "calldate", "phone", "queue", "timewait", "reason", "operator", "state", "attempts"),
    *("closed_as", "gate", "note"),
)
"""The columns of missed calls, where there are none to tell."""

# What a spreadsheet takes for the beginning of a formula, full-width forms too (OWASP, "CSV Injection").
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9.]+\Z")


def lines(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """A line that names the columns, what each row has (`columns` if there are none), then one for each."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    # Python quotes a carriage return only where it ends lines; for a spreadsheet it always does.
    quoting = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def line(cells: Sequence[str]) -> str:
        buffer.seek(0)
        buffer.truncate()
        (quoting if any("\r" in cell for cell in cells) else writer).writerow(cells)
        return buffer.getvalue()

    names: Sequence[str] = ()
    for row in rows:
        if not names:
            names = list(row)
            yield line(names)
        yield line([_cell(row[name]) for name in names])
    if not names:
        yield line(columns)


def as_text(value: object) -> str:
    """What JSON has no word for; times in ISO 8601 UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return as_text(value)
    if isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, default=as_text)
    else:
        text = "" if value is None else str(value)
    if _FORMULA.match(text) and not _PLAIN_NUMBER.match(text):
        return "'" + text
    return text
