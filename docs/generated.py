"""What these pages take from the code: the configuration's keys, the life of a recall, the commands' help.

Directives: `configuration-keys`, `life-of-a-recall`. And the help of commands, which is written for a
terminal, is made fit for reStructuredText before sphinx-click reads it.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, ClassVar

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from freeswitch_callback.cli import config_text
from freeswitch_callback.config import SECTIONS
from freeswitch_callback.core.lifecycle import MOVES, State


class _Written(Directive):
    """A directive whose content is reStructuredText that is written here."""

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        section = nodes.section()
        section.document = self.state.document
        source = StringList(self.lines(), source=f"<{self.name}>")
        self.state.nested_parse(source, self.content_offset, section, match_titles=True)
        return section.children


class ConfigurationKeys(_Written):
    """Every key, section by section: what it means, and its default."""

    def lines(self) -> list[str]:
        written: list[str] = []
        for section, kind in SECTIONS.items():
            heading = config_text.heading(section)
            written += [heading, "-" * len(heading), "", _text(" ".join((kind.__doc__ or "").split())), ""]
            for key in config_text.keys(section):
                written += [
                    f".. _{section}.{key.name}:",
                    "",
                    f"``{key.name}``",
                    f"    {_text(key.means)}",
                    "",
                ]
                if key.default is not None:
                    written += [f"    Default: ``{key.default}``", ""]
                if key.example is not None:
                    written += [f"    For example: ``{key.name} = {key.example}``", ""]
        return written


def _text(plain: str) -> str:
    """Text of the code's: what it has in `` ` `` is literal, and nothing else is markup."""
    return "".join(
        f"``{part}``" if odd else re.sub(r"([\\*|_<>])", r"\\\1", part)
        for part, odd in zip(plain.split("`"), _alternating(), strict=False)
    )


def _alternating() -> Any:
    while True:
        yield False
        yield True


class LifeOfARecall(Directive):
    """The table of `core.lifecycle` as a picture: each state a box, each move an arrow."""

    # The middle of each box: a state that is not here is an error. The arrows are the table's.
    places: ClassVar[dict[State, tuple[int, int]]] = {
        State.WAITING: (80, 150),
        State.CLAIMED: (230, 50),
        State.DIALLING: (420, 50),
        State.CONNECTED: (640, 110),
        State.UNKNOWN: (640, 250),
        State.CLOSED: (300, 290),
    }
    width, height = 720, 330
    box_width, box_height = 120, 40

    def run(self) -> list[nodes.Node]:
        said = "; ".join(f"{state}: {', '.join(sorted(MOVES[state]))}" for state in State)
        picture = nodes.raw("", self.svg(said), format="html")
        return [picture, nodes.comment("", said)]

    def svg(self, said: str) -> str:
        moves = [(state, to) for state in State for to in sorted(MOVES[state])]
        parts = [self._arrow(state, to) for state, to in moves] + [self._box(state) for state in State]
        return (
            f'<svg class="life-of-a-recall" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(said)}" style="max-width:100%;height:auto" font-size="15">'
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 10 5 0 10z" fill="currentColor"/></marker></defs>'
            f"{''.join(parts)}</svg>"
        )

    def _box(self, state: State) -> str:
        x, y = self.places[state]
        left, top = x - self.box_width // 2, y - self.box_height // 2
        return (
            f'<g data-state="{state}"><rect x="{left}" y="{top}" width="{self.box_width}" '
            f'height="{self.box_height}" rx="8" fill="var(--color-background-secondary, #eee)" '
            f'stroke="currentColor"/><text x="{x}" y="{y + 5}" text-anchor="middle" fill="currentColor">'
            f"{state}</text></g>"
        )

    def _arrow(self, state: State, to: State) -> str:
        """Bent to its left, so that two that lead to and fro are two."""
        (x1, y1), (x2, y2) = self.places[state], self.places[to]
        dx, dy = x2 - x1, y2 - y1
        bend = (x1 + x2) / 2 + dy / 6, (y1 + y2) / 2 - dx / 6
        start, end = self._edge((x1, y1), bend), self._edge((x2, y2), bend)
        return (
            f'<path data-move="{state} {to}" d="M{start[0]:.0f} {start[1]:.0f} Q{bend[0]:.0f} {bend[1]:.0f} '
            f'{end[0]:.0f} {end[1]:.0f}" fill="none" stroke="currentColor" opacity="0.7" '
            'marker-end="url(#tip)"/>'
        )

    def _edge(self, middle: tuple[int, int], towards: tuple[float, float]) -> tuple[float, float]:
        """Where the way from the middle of a box leaves it."""
        dx, dy = towards[0] - middle[0], towards[1] - middle[1]
        reach = min(
            self.box_width / 2 / abs(dx) if dx else float("inf"),
            self.box_height / 2 / abs(dy) if dy else float("inf"),
        )
        return middle[0] + dx * reach, middle[1] + dy * reach


def _fit(_app: Any, _context: click.Context, lines: list[str]) -> None:
    """Of a command's help: its examples, behind click's mark, are blocks; the rest is `_text`."""
    written: list[str] = []
    example = False
    for line in lines:
        if line.strip() == "\b" or line.startswith("| "):
            if not example:
                written += ["", "::", ""]
            example = True
            if line.startswith("| "):
                written.append("    " + line[2:])
        elif not line.strip():
            example = False
            written.append("")
        else:
            written.append(f"    {line}" if example else _text(line))
    lines[:] = written


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.add_directive("life-of-a-recall", LifeOfARecall)
    app.connect("sphinx-click-process-description", _fit)
    return {"parallel_read_safe": True}
