"""What a process does before it knows what it is to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLUGIN = """
from gevent import monkey

def told(event):
    print("told of", type(event).__name__, monkey.is_module_patched("socket"))
"""


def run(program: str, *paths: Path) -> str:
    """What it prints, in a process of its own."""
    words = [sys.executable, "-W", "ignore", "-c", program]
    environment = {"PYTHONPATH": ":".join(map(str, (Path(__file__).parents[2], *paths)))}
    return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout


def started(*words: str) -> str:
    return (
        f"import sys; sys.argv = ['freeswitch-callback', *{words!r}]\n"
        "from freeswitch_callback.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
    )


def test_help_and_version_do_not_wait_for_gevent() -> None:
    for words in (["--help"], ["--version"]):
        assert "gevent" not in run(started(*words) + "print(*sys.modules)").splitlines()[-1].split()


def test_nothing_of_a_command_is_imported_before_the_patches() -> None:
    look = (
        "from gevent import monkey; import sys; patch_all = monkey.patch_all\n"
        "def patch():\n"
        "    early.extend(name for name in sys.modules if name.startswith('freeswitch_callback.'))\n"
        "    patch_all()\n"
        "early = []; monkey.patch_all = patch\n"
    )
    early, patched = run(
        look + started("config", "example") + "print(*early); print(monkey.is_module_patched('socket'))"
    ).splitlines()[-2:]
    assert patched == "True"
    assert "freeswitch_callback.cli" in early.split()
    assert not [name for name in early.split() if name.startswith("freeswitch_callback.cli.config")]
    assert not {"freeswitch_callback.ledger", "freeswitch_callback.esl", "freeswitch_callback.config"} & {
        *early.split()
    }


def test_what_is_installed_is_asked_once_for_plugins_of_gevent_and_they_are_told(tmp_path: Path) -> None:
    (tmp_path / "a_plugin.py").write_text(PLUGIN)
    about = tmp_path / "a_plugin-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1\n")
    groups = ("will_patch_all", "did_patch_all")
    (about / "entry_points.txt").write_text(
        "".join(f"[gevent.plugins.monkey.{group}]\na = a_plugin:told\n" for group in groups)
    )
    program = (
        "from importlib import metadata; distributions, asked = metadata.distributions, []\n"
        "def look(*args, **options): asked.append(1); return distributions(*args, **options)\n"
        "metadata.distributions = look; entry_points = metadata.entry_points\n"
        "from freeswitch_callback.patches import patch; patch()\n"
        "print(len(asked), metadata.entry_points is entry_points)"
    )
    assert run(program, tmp_path).splitlines() == [
        "told of GeventWillPatchAllEvent False",
        "told of GeventDidPatchAllEvent True",
        "1 True",
    ]


def test_who_reads_no_further_is_no_failure() -> None:
    """`list | head`."""
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "freeswitch_callback", "config", "example"]
    ended = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")
