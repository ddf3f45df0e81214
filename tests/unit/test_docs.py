"""The documentation: built without a warning, complete, and about this release."""

from __future__ import annotations

import html
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import freeswitch_callback
from freeswitch_callback import cli
from freeswitch_callback.cli import config_text
from freeswitch_callback.config import SECTIONS, parse
from freeswitch_callback.core.lifecycle import MOVES
from freeswitch_callback.engine.alarms import Name
from freeswitch_callback.errors import CallbackError

DOCS = Path("docs")
PAGES = sorted(DOCS.glob("*.rst"))


def errors(kind: type[CallbackError]) -> set[type[CallbackError]]:
    below = {error for each in kind.__subclasses__() for error in errors(each)}
    return {*kind.__subclasses__(), *below}


def every_error() -> set[type[CallbackError]]:
    """Of all modules, wherever they are defined."""
    for module in pkgutil.walk_packages(freeswitch_callback.__path__, "freeswitch_callback."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return errors(CallbackError)


def entries(page: str) -> dict[str, str]:
    """The terms of a page's definition lists, with what is said of them."""
    text = (DOCS / page).read_text()
    return dict(re.findall(r"^``(\w+)``(?: \(\d\))?\n((?:    .+\n)+)", text, re.MULTILINE))


@pytest.mark.parametrize("alarm", Name)
def test_every_alarm_has_what_to_do_about_it(alarm: Name):
    assert len(entries("troubleshooting.rst").get(alarm, "").split()) >= 10


def test_every_error_has_what_to_do_about_it_and_its_exit_status():
    text = (DOCS / "troubleshooting.rst").read_text()
    for error in every_error():
        assert f"``{error.__name__}`` ({error.exit_status})\n" in text, error
        assert len(entries("troubleshooting.rst")[error.__name__].split()) >= 5, error


def test_there_is_nothing_that_the_code_does_not_know():
    known = {str(alarm) for alarm in Name} | {error.__name__ for error in every_error()}
    assert set(entries("troubleshooting.rst")) - known == set()


@pytest.mark.parametrize("page", [*PAGES, Path("README.rst")], ids=lambda page: page.name)
def test_every_configuration_on_a_page_is_one(page: Path):
    for block in re.findall(r"^( *)\.\. code-block:: toml\n\n((?:\1    .*\n|\n)+)", page.read_text(), re.M):
        text = re.sub(f"^{block[0]}    ", "", block[1], flags=re.MULTILINE)
        data = tomllib.loads(text)
        if "freeswitch" not in data:
            text += '\n[[freeswitch]]\npassword = "x"\n'
        given = {"FREESWITCH_CALLBACK_FS1_PASSWORD": "x", "FREESWITCH_CALLBACK_DATABASE_PASSWORD": "x"}
        parse(text.replace("password_file", "password"), given)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("html")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_the_pages_are_built_without_a_warning(built: Path):
    assert {path.stem for path in built.glob("*.html")} >= {page.stem for page in PAGES}


def test_every_key_is_on_the_page_about_the_configuration(built: Path):
    text = text_of(built / "configuration.html")
    for section in SECTIONS:
        for key in config_text.keys(section):
            assert key.means.replace("`", "") in text, key.name
            if key.default is not None:
                assert f"Default: {key.default}" in text, key.name


def test_every_command_and_option_is_on_the_page_about_them(built: Path):
    text = text_of(built / "command-line.html")

    def look(group: click.Group) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    assert parameter.opts[0] in text, (name, parameter.opts)
            assert " ".join(name.split()) in text
            if isinstance(command, click.Group):
                look(command)

    look(cli.cli)
    assert "--older-than 90d" in text, "dashes are dashes"


def test_the_life_of_a_recall_is_drawn_from_its_table(built: Path):
    drawn = re.findall(r'data-move="(\w+) (\w+)"', (built / "how-it-works.html").read_text())
    assert sorted(drawn) == sorted((str(state), str(to)) for state, tos in MOVES.items() for to in tos)
    assert set(re.findall(r'data-state="(\w+)"', (built / "how-it-works.html").read_text())) == set(MOVES)
    assert set(MOVES) <= set(entries("how-it-works.rst"))


def test_the_tutorials_commands_are_commands():
    page = (DOCS / "getting-started.rst").read_text()
    commands = re.findall(r"^ +\$ \.venv/bin/freeswitch-callback (.*)$", page, re.MULTILINE)
    assert len(commands) >= 8
    for words in map(str.split, commands):
        context = cli.cli.make_context("freeswitch-callback", words, ignore_unknown_options=False)
        name, command, rest = cli.cli.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        command.make_context(name, rest)
