"""What systemd is told: how far a unit is open, and that it fits the program."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from freeswitch_callback import cli
from freeswitch_callback.config import parse
from freeswitch_callback.ledger import Ledger

FOLDER = Path("systemd")
SERVICES = sorted(FOLDER.glob("*.service"))
EXPOSURE = 1.5
TOOL = shutil.which("systemd-analyze")


def settings(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            yield name, value


def one(path: Path, name: str) -> str:
    [value] = [value for known, value in settings(path) if known == name]
    return value


if TOOL:  # it is part of systemd, and not of every machine

    @pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
    def test_a_service_can_do_little_but_its_work(unit: Path):
        said = subprocess.run(
            [TOOL, "security", "--offline=true", "--no-pager", str(unit)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
        assert exposure is not None, said.stderr
        assert float(exposure[1]) <= EXPOSURE, said.stdout

    def test_systemd_understands_all_of_it():
        units = [*SERVICES, *FOLDER.glob("*.timer")]
        said = subprocess.run(
            [TOOL, "verify", "--man=no", *map(str, units)], capture_output=True, text=True, check=False
        )
        # The program is not installed here; an older systemd has no notify-reload, of which `install` knows.
        expected = "is not executable: No such file|ignoring: notify-reload"
        assert [line for line in said.stderr.splitlines() if not re.search(expected, line)] == []


def test_both_services_are_shut_in_the_same_way():
    kept = ("Protect", "Private", "Restrict", "SystemCall", "Capability", "NoNew", "Memory", "Lock", "UMask")
    shut = [[(n, v) for n, v in settings(unit) if n.startswith(kept)] for unit in SERVICES]
    assert len(shut) == 2
    assert shut[0] == shut[1]
    assert len(shut[0]) > 15


def test_every_unit_is_a_file_that_is_installed():
    with open("Makefile") as makefile:
        text = makefile.read()
    assert "systemd/*.service systemd/*.timer" in text
    for other in FOLDER.iterdir():
        assert other.suffix in (".service", ".timer") or str(other) in text


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_the_credentials_that_it_loads_are_those_that_the_configuration_looks_for(unit: Path, tmp_path: Path):
    names = [value.partition(":")[0] for name, value in settings(unit) if name == "LoadCredential"]
    for name in names:
        (tmp_path / name).write_text(f"secret of {name}\n")
    text = 'database.url = "postgresql://me@host/db"\n[[freeswitch]]\n'
    configuration = parse(text, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert configuration.database.password == "secret of database.password"
    assert configuration.freeswitch[0].password == "secret of fs1.password"
    assert len(names) == 2


def test_credentials_that_may_not_be_looked_at_are_none():
    """As of a service that has none: systemd makes the folder for root alone."""
    cannot_be_read = {"CREDENTIALS_DIRECTORY": "/" + "a" * 300}
    assert parse('freeswitch = [{ password = "x" }]', cannot_be_read).freeswitch[0].password == "x"


def test_the_watchdog_is_slower_than_the_slowest_sign_of_life():
    unit = FOLDER / "freeswitch-callback.service"
    assert one(unit, "WatchdogSec") == "60s"
    assert one(unit, "Type") == "notify-reload"
    assert one(unit, "Restart") == "on-failure"


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_what_it_starts_is_a_command_that_there_is(unit: Path):
    environment = dict(
        pair.strip('"').split("=", 1) for name, pair in settings(unit) if name == "Environment"
    )
    command = one(unit, "ExecStart")
    for name, value in environment.items():
        command = command.replace(f"${name}", value)
    program, *words = shlex.split(command)
    assert program == "/usr/local/bin/freeswitch-callback"
    assert "$" not in command
    assert words[:2] == ["--config", cli.DEFAULT_CONFIG]
    name = words[2]
    found = cli.cli.get_command(click.Context(cli.cli), name)
    assert found is not None
    found.make_context(name, words[3:])


def test_what_the_timer_starts_needs_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with closing(Ledger(f"sqlite://{tmp_path}/callback.db")) as ledger:
        ledger.migrate()
    path = tmp_path / "callback.toml"
    path.write_text(
        f'database.url = "sqlite://{tmp_path}/callback.db"\nfreeswitch = [{{ password = "x" }}]\n'
    )
    unit = FOLDER / "freeswitch-callback-purge.service"
    options = one(unit, "Environment").strip('"').partition("=")[2].split()
    assert cli.main(["--config", str(path), "purge", "--yes", *options]) == 0
    assert capsys.readouterr().out.endswith("anonymised: 0\n")


def test_the_timer_makes_up_for_what_was_slept_through():
    timer = configparser.ConfigParser(interpolation=None)
    timer.read(FOLDER / "freeswitch-callback-purge.timer")
    assert timer["Timer"]["Persistent"] == "yes"
    assert timer["Install"]["WantedBy"] == "timers.target"
