"""What a wheel has in it, and what `make install` puts where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from freeswitch_callback import __version__, cli

pytest.importorskip("click_man")
HERE = Path(__file__).parents[2]
OFFLINE = "--no-deps --no-index --no-build-isolation"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the repository, elsewhere: what building leaves behind is not left in it."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("freeswitch_callback", "systemd", "dialplan", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "_build")
        shutil.copytree(HERE / name, copy / name, ignore=ignored)
    for name in (
        "setup.cfg",
        "setup.py",
        "Makefile",
        "README.rst",
        "CHANGELOG.rst",
        "LICENSE",
        "MANIFEST.in",
    ):
        shutil.copy(HERE / name, copy / name)
    return copy


def make(source: Path, *words: str) -> str:
    """With the venv of this very Python, which is not to be changed; what it said."""
    venv = Path(sys.prefix)
    not_made = [word for name in (".installed-docs", "bin/python") for word in ("-o", str(venv / name))]
    made = subprocess.run(
        ["make", "-C", str(source), *not_made, f"VENV={venv}", f"PYTHON={sys.executable}",
         f"PIP_OPTIONS={OFFLINE}", *words],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(source)},
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


def test_the_wheel_has_the_program_and_nothing_else(source: Path):
    make(source, "wheel")
    [wheel] = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        [entry] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert b"freeswitch-callback = freeswitch_callback.__main__:main" in archive.read(entry)
        assert any(name.endswith("LICENSE") for name in archive.namelist())
    assert names == {
        str(path.relative_to(source))
        for path in (source / "freeswitch_callback").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed" or ("web/" in str(path) and path.is_file())
    }


def test_a_systemd_that_knows_how_to_reload_gets_the_unit_as_it_is(source: Path):
    assert "ExecReload" in make(source, "-n", "install", "SYSTEMD=252")
    assert "ExecReload" not in make(source, "-n", "install", "SYSTEMD=253")


def test_make_install_puts_everything_below_the_prefix(source: Path, tmp_path: Path):
    make(source, "install", f"DESTDIR={tmp_path}", "PREFIX=/opt/callback", "SYSTEMD=252")
    root = tmp_path / "opt/callback"
    assert {path.name for path in tmp_path.iterdir()} == {"opt"}
    units = root / "lib/systemd/system"
    assert {path.name for path in units.iterdir()} == {
        "freeswitch-callback.service", "freeswitch-callback-purge.service", "freeswitch-callback-purge.timer",
    }  # fmt: skip
    service = (units / "freeswitch-callback.service").read_text().splitlines()
    assert (
        "ExecStart=/opt/callback/bin/freeswitch-callback --config " + cli.DEFAULT_CONFIG + " run" in service
    )
    assert {"Type=notify", "ExecReload=/bin/kill -HUP $MAINPID"} <= set(service)
    assert "Type=notify-reload" not in service
    for name in ("sysusers", "tmpfiles"):
        assert (root / f"lib/{name}.d/freeswitch-callback.conf").is_file()
    pages = {path.name for path in (root / "share/man/man1").iterdir()}
    assert {"freeswitch-callback.1", *(f"freeswitch-callback-{name}.1" for name in cli.COMMANDS)} <= pages
    for path, mark in {
        "bash-completion/completions/freeswitch-callback": "COMP_WORDS",
        "zsh/site-functions/_freeswitch-callback": "#compdef freeswitch-callback",
        "fish/vendor_completions.d/freeswitch-callback.fish": "complete ",
        "doc/freeswitch-callback/config.toml": "[[freeswitch]]",
    }.items():
        assert mark in (root / "share" / path).read_text()
    given = root / "share/doc/freeswitch-callback/dialplan"
    assert {path.name for path in given.iterdir()} == {path.name for path in (HERE / "dialplan").iterdir()}
    program = root / "bin/freeswitch-callback"
    assert os.readlink(program) == "/opt/callback/lib/freeswitch-callback/bin/freeswitch-callback"
    script = root / "lib/freeswitch-callback/bin/freeswitch-callback"
    assert script.read_text().splitlines()[0] == "#!/opt/callback/lib/freeswitch-callback/bin/python"
    assert str(tmp_path) not in script.read_text()
    [package] = root.glob("lib/freeswitch-callback/lib/python*/site-packages/freeswitch_callback/__init__.py")
    assert __version__ in package.read_text()
    make(source, "uninstall", f"DESTDIR={tmp_path}", "PREFIX=/opt/callback")
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == []
