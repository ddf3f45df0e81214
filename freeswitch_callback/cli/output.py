"""How things are shown: a table for people, JSON and CSV for programs, progress on a terminal.

Names and numbers come from strangers: a terminal gets no control characters, rich no markup, a spreadsheet no
formula.
"""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TextIO

import click

from freeswitch_callback.operations import spreadsheet

_REFRESH = 0.1


def printable(value: object) -> str:
    """A value as text that cannot move a cursor, ring a bell, or turn the writing direction."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = str(value)
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    kind = unicodedata.category(character)
    return "\N{REPLACEMENT CHARACTER}" if kind[0] == "C" or kind in ("Zl", "Zp") else character


def duration(seconds: float | None) -> str:
    """A length of time in people's words: `3 min 12 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return "-"
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def share(part: int, base: int) -> str:
    """A rate in percent, with what it is of: `12.5 %, 3 of 24`."""
    return f"{100 * part / base:.1f} %, {part} of {base}" if base else "-, 0 of 0"


@contextmanager
def progress(what: str, total: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """Tell how far it is, on stderr and only to a terminal. What it gives takes how much is done by now;
    `total` is asked only where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(what, total=total())
        shown = 0.0

        def tell(done: int) -> None:
            nonlocal shown
            if (at := time.monotonic()) - shown >= _REFRESH:
                shown = at
                bar.update(task, completed=done, refresh=True)

        yield tell


def show(rows: Iterable[Mapping[str, Any]], form: str, columns: Sequence[str], title: str = "") -> None:
    """Print rows in `form`; `columns` are those of the table, the others print what a row has."""
    if form == "json":
        for row in rows:
            click.echo(_object(row))
    elif form == "csv":
        csv_rows(rows, columns, sys.stdout)
    elif sys.stdout.isatty():
        _table(rows, columns, title)
    else:
        for row in rows:
            click.echo("  ".join(f"{printable(row.get(column)) or '-'}" for column in columns))


def _object(row: Mapping[str, Any]) -> str:
    """JSON on one line: what some take for a line's end, and what moves a terminal's cursor, is escaped."""
    text = json.dumps(row, default=spreadsheet.as_text, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def csv_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    file: TextIO,
    tell: Callable[[int], None] = lambda count: None,
) -> int:
    """Write rows as CSV (`spreadsheet.lines`); how many. `tell` is told of each row how many they are by
    then."""
    count = -1  # the first line names the columns
    for count, line in enumerate(spreadsheet.lines(rows, columns)):
        file.write(line)
        if count:
            tell(count)
    return max(count, 0)


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
