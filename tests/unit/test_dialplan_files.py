"""What may stand in the files that an administrator drops into FreeSWITCH's dialplan."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from freeswitch_callback.simulator import dialplan

FILES = sorted((Path(__file__).parents[2] / "dialplan").glob("*.xml"))

APPLICATIONS = {
    "answer", "db", "event", "execute_extension", "hangup", "play_and_get_digits", "playback",
    "record_session", "set", "sleep", "transfer",
}  # fmt: skip
"""None of them runs a program or a script."""

OURS = re.compile(
    r"uuid|context|cc_member_uuid|hangup_cause|bridge_epoch|end_epoch|callback_sound_[a-z]+|callback_announcement"
)
"""Variables that FreeSWITCH sets, or these files: none is a caller's."""


def actions(path: Path) -> list[tuple[str, str]]:
    tree = ElementTree.parse(path)
    return [
        (element.attrib["application"], element.get("data", ""))
        for kind in ("action", "anti-action")
        for element in tree.iter(kind)
    ]


def test_the_three_files_are_there():
    assert [path.name for path in FILES] == [
        "callback_connect.xml",
        "callback_missed.xml",
        "callback_request.xml",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestEachFile:
    def test_the_simulator_reads_it_and_every_extension_has_its_prefix(self, path):
        extensions = dialplan.read(path)
        assert extensions
        assert all(extension.name.startswith("callback_") for extension in extensions)

    def test_no_shell_no_script_no_application_but_these(self, path):
        assert {application for application, _ in actions(path)} <= APPLICATIONS

    def test_nothing_of_the_callers_stands_in_an_argument(self, path):
        for application, data in actions(path):
            for variable in re.findall(r"\$\{([^}]*)\}", data):
                assert OURS.fullmatch(variable) or variable == "recordings_dir", (application, data)

    def test_no_capture_of_what_was_dialled_or_shown_stands_in_an_argument(self, path):
        assert not [data for _, data in actions(path) if re.search(r"\$\d", data)]

    def test_it_says_at_its_top_how_it_is_installed(self, path):
        text = path.read_text("utf-8")
        assert text.startswith("<!--")
        assert "reloadxml" in text
