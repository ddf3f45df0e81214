"""The man pages, one for each command, out of the commands themselves: `python docs/man.py FOLDER`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click_man import core
from click_man.man import ManPage

from freeswitch_callback import __version__
from freeswitch_callback.cli import cli


class Page(ManPage):  # type: ignore[misc]
    """As click-man has it, with what troff would take for its own escaped, and examples left as they are."""

    def replace_blank_lines(self, text: str) -> str:
        return "\n".join(_lines(text))


def _lines(text: str) -> Iterator[str]:
    example = False
    for line in text.split("\n"):
        if line == "\b":  # click's mark: up to the next empty line, nothing is wrapped
            example = True
            yield ".nf"
        elif not line:
            if example:
                yield ".fi"
            example = False
            yield ".PP"
        else:
            line = line.replace("\\", "\\e").replace("-", "\\-")
            yield f"\\&{line}" if line[0] in ".'" else line
    if example:
        yield ".fi"


def _prepare(group: click.Group) -> None:
    """click-man reads the commands that a group has; ours imports one when it is asked for. And it cuts the
    first sentence short, unless it is given."""
    context = click.Context(group)
    group.short_help = _first_sentence(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        group.commands[name] = command
        if isinstance(command, click.Group):
            _prepare(command)
        command.short_help = _first_sentence(command)


def _first_sentence(command: click.Command) -> str:
    text = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"[.:;](?: |$)", text)[0]


def write(folder: Path) -> list[Path]:
    """Writes the pages; which they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.1"):
        old.unlink()
    _prepare(cli)
    core.ManPage = Page
    # A version for a date: the same commands make the same pages.
    core.write_man_pages(
        "freeswitch-callback", cli, version=__version__, target_dir=str(folder), date=__version__
    )
    return sorted(folder.glob("*.1"))


if __name__ == "__main__":
    print(f"{len(write(Path(sys.argv[1])))} pages in {sys.argv[1]}")
