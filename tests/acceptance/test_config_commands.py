"""config example, check, show: as people meet them."""

from __future__ import annotations

import json

import pytest

from freeswitch_callback import cli

RIGHT = """
database.url = "sqlite:///tmp/callback.db"
freeswitch = [{ password = "s3cret" }]
numbers.own = ["+12025559999"]
recall.caller_id_number = "+12025559999"
"""


@pytest.fixture
def config(tmp_path, capsys):
    """Run a command on a configuration: its exit status, and the lines that it said."""
    path = tmp_path / "callback.toml"

    def run(text, *words):
        path.touch(mode=0o600)
        path.write_text(text)
        status = cli.main(["--config", str(path), *(words or ("config", "check"))])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    run.path = path
    return run


def test_the_example_lacks_only_what_nobody_else_can_know(config, capsys):
    assert cli.main(["config", "example"]) == 0
    text = capsys.readouterr().out
    status, said, _ = config(text)
    assert status == 3
    assert [line for line in said if "freeswitch[1].password is missing" not in line] == []
    text = text.replace(
        '# For example: caller_id_number = "+12025559999"', 'caller_id_number = "+12025559999"'
    )
    text = text.replace("[[freeswitch]]", '[[freeswitch]]\npassword = "s3cret"')
    text = text.replace("#own = []", 'own = ["+12025559999"]')
    status, said, _ = config(text)
    assert (status, said) == (0, [f"ok       {config.path}"])


def test_all_that_is_wrong_is_said_at_once(config):
    status, said, _ = config(
        """
        [recal]
        [database]
        url = 1
        [[freeswitch]]
        host = "10.0.0.1"
        password = "ClueCon"
        [[freeswitch]]
        prot = 8021
        [capture]
        cdr_folder = { fs9 = "/x" }
        [numbers]
        allow = ["UK"]
        own = ["030"]
        [recall]
        poll = "0s"
        attempts = 0
        modus = 1
        [recall.queues."support@default"]
        expire = "soon"
        """
    )
    assert status == 3
    assert all(line.startswith(f"bad      {config.path}: ") for line in said)
    for wrong in (
        "recal: no such key; did you mean recall?",
        "database.url must be a text",
        "freeswitch[1].password is the one that FreeSWITCH ships with",
        "freeswitch[2].prot: no such key; did you mean freeswitch[2].port?",
        "freeswitch[2].password is missing",
        "'fs1' is there twice",
        "capture.cdr_folder must say which",
        "numbers.allow must be an ISO 3166 country",
        "numbers.own must be a number in E.164",
        "recall.poll must be longer than 0 s",
        "recall.attempts must be a whole number",
        "recall.modus: no such key; did you mean recall.mode?",
        'recall.queues."support@default".expire must be a duration',
    ):
        assert sum(wrong in line for line in said) == 1, wrong
    assert len(said) == 13


def test_every_command_tells_all_that_is_wrong(config):
    status, _, err = config("[recall]\nattempts = 0\nmodus = 1\n", "list")
    assert status == 3
    assert len(err.splitlines()) == 3
    status, said, _ = config("[recall]\nattempts = 0\nmodus = 1\n", "check")
    assert (status, len(said)) == (3, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('numbers.default_region = "DE"\n', "numbers.default_region is DE, and numbers.allow has no such"),
        ("numbers.allow = []\n", "numbers.allow is empty: nobody is called back"),
        ("numbers.types = []\n", "numbers.types is empty"),
        (
            'numbers.allow_prefixes = ["+881"]\nnumbers.deny_prefixes = ["+881"]\n',
            "+881 is in numbers.allow_prefixes and in numbers.deny_prefixes",
        ),
        ("caps.per_number = 0\n", "caps.per_number is 0: without a limit"),
        ("caps.breaker = { recalls = 0 }\n", "caps.breaker.recalls is 0"),
        ("caps.prefix_hides = 0\n", "caps.prefix_hides is 0"),
        ("capture.queues = []\n", "nothing is recorded"),
        ('capture.cdr_folder = "/not/there"\n', "capture.cdr_folder: /not/there is no folder here"),
        ('recall.expire = "1m"\n', "recall.expire is over before recall.retry lets anybody be tried again"),
        ("recall.hours = []\n", "recall.hours is empty: nobody is ever called"),
        ('recall.poll = "10m"\n', "recall.poll is 600 s"),
        ('recall.hours = { to = "01:00" }\n', "recall: numbers of US can be called for"),
        (
            'capture.queues = ["sales@*"]\nrecall.queues."support@default".attempts = 2\n',
            'recall.queues."support@default" changes nothing',
        ),
        ('recall.queues."q@d".caller_id_number = "+12025558888"\n', "+12025558888 is not in numbers.own"),
    ],
)
def test_what_is_odd_is_a_warning_and_no_error(config, text, said):
    status, lines, _ = config(RIGHT + text)
    assert status == 0
    assert any(line.startswith("warning  ") and said in line for line in lines), lines


def test_a_file_with_a_password_that_everybody_reads_is_odd(config):
    config(RIGHT)
    config.path.chmod(0o644)
    status, said, _ = config(RIGHT)
    assert status == 0
    assert f"{config.path} has a password in it and is readable for everybody" in said[0]


def test_a_password_for_nobody_in_the_environment_is_odd(config, monkeypatch):
    monkeypatch.setenv("FREESWITCH_CALLBACK_FS2_PASSWORD", "x")
    assert "$FREESWITCH_CALLBACK_FS2_PASSWORD is the password of no section" in config(RIGHT)[1][0]


def test_the_stock_password_is_odd_even_on_this_machine(config):
    assert "the password that FreeSWITCH ships with" in config(RIGHT.replace("s3cret", "ClueCon"))[1][0]


def test_show_tells_what_is_in_force(config):
    status, said, _ = config(RIGHT, "config", "show")
    assert status == 0
    assert "s3cret" not in "\n".join(said)
    assert [line.split()[-2:] for line in said if line.startswith("attempts")] == [["#", "default"]]
    assert 'own = ["+12025559999"]' in said
    status, said, _ = config(RIGHT, "config", "show", "--format", "json")
    rows = {(row["section"], row["key"]): row for row in map(json.loads, said)}
    assert rows["[recall]", "attempts"] == {
        "section": "[recall]", "key": "attempts", "value": "3", "from": "default",
    }  # fmt: skip
    assert rows["[[freeswitch]]", "password"]["value"] == '"***"'
