"""The README and the tutorial, followed word for word: in a copy of the sources, with a venv of its own.

A page says what a command prints; `…` stands for whatever is there, and on a line of its own for any lines.
What is not played here needs root, as `make install` does, or a FreeSWITCH, or is `make test` itself.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import gevent
import pytest

from tests.acceptance.conftest import House, Shell

HERE = Path(__file__).parents[2]
README, EVERY_DAY = re.split("\nEvery day\n|\nConfiguration\n", (HERE / "README.rst").read_text())[:2]
TUTORIAL = (HERE / "docs/getting-started.rst").read_text().partition("\nFifteen minutes, with yours\n")[0]
DEMO = "--seconds 5 --listen 127.0.0.1:0"
UNTIL_CTRL_C = re.compile(r"freeswitch-callback (--config \S+ )?(simulate|run)\b")
WHERE_THE_SIMULATOR_LISTENS = 8021
LISTENS = f"a FreeSWITCH on 127.0.0.1:{WHERE_THE_SIMULATOR_LISTENS}, …"
THEIR_PASSWORD = "the one in event_socket.conf.xml"
WITHIN = 60.0

pytestmark = pytest.mark.timeout(240)  # pip fetches what the program needs


class Step(NamedTuple):
    """A file that is written, or a command that is typed, and the lines that it prints, by the page."""

    file: str
    command: str
    text: str

    def printed_in(self, said: str) -> bool:
        lines = [re.escape(line.strip()).replace("…", ".*") for line in self.text.splitlines()]
        pattern = "".join(r"(.*\n)*?" if line == ".*" else rf" *{line} *\n" for line in lines)
        return re.search(pattern, said) is not None


def steps(page: str) -> Iterator[Step]:
    """In the order of the page."""
    block = r"\n\n((?:    .*\n|\n)+)"
    written, typed = r"``(\S+)``:\n\n\.\. code-block:: toml", r"^\.\. code-block:: console"
    for found in re.finditer(f"{written}{block}|{typed}{block}|[^:]::{block}", page, re.MULTILINE):
        file, text, session, commands = found.groups()
        if file:
            yield Step(file, "", textwrap.dedent(text))
        elif session:
            for said in textwrap.dedent(session).strip().removeprefix("$ ").split("\n$ "):
                command, _, text = said.partition("\n")
                yield Step("", command, text)
        else:
            yield from (Step("", command, "") for command in textwrap.dedent(commands).strip().splitlines())


class Desk:
    """Somebody who types in `folder` what a page says."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        of_this_run = ("MAKE", "MFLAGS", "PYTHON", "FREESWITCH_CALLBACK_", "STATE_DIRECTORY")
        self.environment = {n: v for n, v in os.environ.items() if not n.startswith(of_this_run)} | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PIP_NO_COMPILE": "1",
            "DEMO": DEMO,
        }

    def type(self, step: Step) -> None:
        done = subprocess.run(
            ["sh", "-c", step.command], cwd=self.folder, env=self.environment, timeout=150,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{step.command}\n{done.stdout}"
        assert step.printed_in(done.stdout), f"{step.command}\n{done.stdout}\nis not\n{step.text}"

    @contextmanager
    def in_another_terminal(self, step: Step) -> Iterator[None]:
        """Once it has printed what it should; Ctrl-C ends it."""
        program = subprocess.Popen(
            ["sh", "-c", f"exec {step.command}"], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said = ""
        try:
            with gevent.Timeout(WITHIN, False):
                while not step.printed_in(said) and (line := program.stdout.readline()):
                    said += line
            assert step.printed_in(said), f"{step.command}\n{said}\nis not\n{step.text}"
            yield
        finally:
            program.send_signal(signal.SIGINT)
            try:
                rest, _ = program.communicate(timeout=20)
            finally:
                program.kill()
        assert program.returncode == 0, f"{step.command}\n{said}{rest}"

    def follow(self, page: list[Step]) -> None:
        """All of it, in this order. What runs until Ctrl-C goes on in a terminal of its own."""
        with ExitStack() as terminals:
            for step in page:
                if step.file:
                    (self.folder / step.file).write_text(step.text)
                    (self.folder / step.file).chmod(0o644)
                elif UNTIL_CTRL_C.search(step.command):
                    terminals.enter_context(self.in_another_terminal(step))
                else:
                    self.type(step)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """What is in the repository, elsewhere, and nothing of what working with it has left there; there
    somebody has typed what the tutorial begins with."""
    ignored = [Path(line).name for line in (HERE / ".gitignore").read_text().split()]
    copy = tmp_path_factory.mktemp("tutorial") / "freeswitch-callback"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns(".git", *ignored))
    desk = Desk(copy, copy / ".venv/bin")
    desk.type(next(steps(TUTORIAL)))
    return desk


def elsewhere(page: list[Step]) -> list[Step]:
    """On a machine whose port 8021 is somebody's, the simulator takes another, as one would have it do."""
    try:
        socket.create_server(("127.0.0.1", WHERE_THE_SIMULATOR_LISTENS)).close()
        return page
    except OSError:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    return [
        Step(
            step.file,
            re.sub(r"callback simulate\b", rf"\g<0> --port {port}", step.command),
            re.sub(r"port = \d+, ", "", step.text)
            .replace("{ ", f"{{ port = {port}, ", 1 if step.file else 0)
            .replace(str(WHERE_THE_SIMULATOR_LISTENS), str(port)),
        )
        for step in page
    ]


def test_the_tutorial(desk: Desk) -> None:
    made, *page = steps(TUTORIAL)
    assert made.command == "make demo"
    assert len(page) >= 10
    desk.follow(elsewhere(page))


def test_the_readme(desk: Desk, tmp_path: Path) -> None:
    demo, tests, *others = steps(README)
    assert (demo.command.split()[:2], tests.command.split()[:2]) == (["make", "demo"], ["make", "test"])
    page = [Step("", re.findall("``(freeswitch-callback simulate)`` is one", README)[0], LISTENS)]
    for step in others:
        text = "… node.up …" if step.command.endswith(" run") else step.text
        page.append(step._replace(text=text.replace(THEIR_PASSWORD, "ClueCon")))
    assert [bool(step.file) for step in page].count(True) == 1
    Desk(tmp_path, desk.programs).follow(elsewhere(page))


def test_what_the_readme_has_for_every_day(
    house: House, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [step.command for step in steps(EVERY_DAY)]
    assert len(commands) > 15
    for number in range(1, 18):
        house.missed(phone=f"+120255502{number:02}")
    cdrs = str(HERE / "tests/data/json_cdr")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery staple\n"))
        program, *words = shlex.split(command.replace("/var/log/freeswitch/json_cdr", cdrs), comments=True)
        assert program == "freeswitch-callback"
        status, _, wrong = shell(*words)
        assert (status, wrong) == (0, ""), command
