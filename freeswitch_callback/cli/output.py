"""How rows are shown: a table for people, JSON and CSV for programs.

Names and numbers come from strangers: a terminal gets no control characters, rich no markup, a spreadsheet no
formula.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

_FORMULA = re.compile(r"[=+\-@\t\r]")
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9.]+\Z")


def printable(value: object) -> str:
    """A value as text that cannot move a cursor, ring a bell, or turn the writing direction."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return "".join(
        c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in str(value)
    )


def show(rows: Iterable[Mapping[str, Any]], form: str, columns: Sequence[str], title: str = "") -> None:
    """Print rows in `form`; `columns` are those of the table, the others print what a row has."""
    if form == "json":
        for row in rows:
            click.echo(json.dumps(row, default=_json, ensure_ascii=False))
    elif form == "csv":
        _csv(rows, columns)
    elif sys.stdout.isatty():
        _table(rows, columns, title)
    else:
        for row in rows:
            click.echo("  ".join(f"{printable(row.get(column)) or '-'}" for column in columns))


def _json(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def _csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    writer: Any = None
    for row in rows:
        if writer is None:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            names = list(row)
            writer.writerow(names)
        writer.writerow([_cell(row[name]) for name in names])
    if writer is None:
        csv.writer(sys.stdout, lineterminator="\n").writerow(columns)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return _json(value)
    if isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, default=_json)
    else:
        text = "" if value is None else str(value)
    if _FORMULA.match(text) and not _PLAIN_NUMBER.match(text):
        return "'" + text
    return text


def _table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, header_style="bold", box=None, pad_edge=False)
    for column in columns:
        right = column in ("id", "timewait", "attempts", "waiting", "level", "position")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*(Text(printable(row.get(column))) for column in columns))
        count += 1
    if count:
        Console().print(table)
    else:
        click.echo("nothing found", err=True)
