"""What FreeSWITCH reads in a command, above all what somebody hostile put there."""

from __future__ import annotations

import pytest

from freeswitch_callback.simulator.originate import UsageError, parse_dial_string, parse_originate, separate


def read(text: str) -> tuple[dict[str, str], list[str], tuple[tuple[str, str], ...], list[str]]:
    """Variables, destinations, applications, and what it would have made FreeSWITCH do besides."""
    noted: list[str] = []
    wish = parse_originate(text, noted.append)
    endpoints = [one.endpoint for group in wish.dial.groups for one in group]
    return wish.dial.variables, endpoints, wish.applications, noted


def test_an_honest_command_does_nothing_besides() -> None:
    variables, endpoints, applications, noted = read(
        "{origination_uuid=U,origination_caller_id_name='Recall 2m37s gave up',"
        "api_on_answer='db insert/callback/U.a/1'}"
        "sofia/internal/1001@127.0.0.1:5090 &bridge({ignore_early_media=true}sofia/gateway/main/+12025550200)"
    )
    assert variables["origination_caller_id_name"] == "Recall 2m37s gave up"
    assert variables["api_on_answer"] == "db insert/callback/U.a/1"
    assert endpoints == ["sofia/internal/1001@127.0.0.1:5090"]
    assert applications == (("bridge", "{ignore_early_media=true}sofia/gateway/main/+12025550200"),)
    assert noted == []


def test_quotes_are_gone_before_variables_are_split_at_commas() -> None:
    variables, *_ = read("{name='Smith, John'}sofia/internal/1 &park()")
    assert variables == {"name": "Smith"}


def test_a_space_can_be_written_with_a_backslash() -> None:
    variables, *_ = read(r"{name=Two\swords}sofia/internal/1 &park()")
    assert variables == {"name": "Two words"}


def test_a_leg_has_variables_of_its_own() -> None:
    dial = parse_dial_string(
        "{a=1}[b=2,leg_timeout=8]sofia/internal/1,[b=3]user/2|user/3", lambda _note: None
    )
    assert dial.variables == {"a": "1"}
    assert [[(one.endpoint, one.variables) for one in group] for group in dial.groups] == [
        [("sofia/internal/1", {"b": "2", "leg_timeout": "8"}), ("user/2", {"b": "3"})],
        [("user/3", {})],
    ]


def test_another_delimiter_may_be_chosen() -> None:
    variables, *_ = read("{^^:a=b:c=d,e}sofia/internal/1 &park()")
    assert variables == {"a": "b", "c": "d,e"}


@pytest.mark.parametrize(
    ("hostile", "seen"),
    [
        ("sofia/gateway/main/100,loopback/900 &park()", "extra leg loopback/900"),
        ("sofia/gateway/main/100|loopback/900 &park()", "extra leg loopback/900"),
        ("sofia/gateway/main/100:_:loopback/900 &park()", "extra leg loopback/900"),
        (
            "{name='Bob',execute_on_answer='system touch x'}sofia/internal/1 &park()",
            "execute_on_answer=system touch x",
        ),
        (
            r"{name='Bob,execute_on_answer=system\stouch\sx'}sofia/internal/1 &park()",
            "execute_on_answer=system touch x",
        ),
        (r"{name=Bob,api_on_answer=system\sx}sofia/internal/1 &park()", "api_on_answer=system x"),
        (
            r"{api_hangup_hook='db insert/a/b/1\;system x'}sofia/internal/1 &park()",
            "api_hangup_hook=db insert/a/b/1",
        ),
        ("[execute_on_answer='system x']sofia/internal/1 &park()", "execute_on_answer=system x"),
        ("{name=${system(x)}}sofia/internal/1 &park()", "expansion system(x)"),
    ],
)
def test_what_a_hostile_value_would_run_is_noted(hostile: str, seen: str) -> None:
    noted = read(hostile)[3]
    assert any(one.startswith(seen) for one in noted), noted


def test_a_hostile_number_can_bring_an_application_of_its_own() -> None:
    _, endpoints, applications, _ = read("sofia/gateway/main/100 '&system(touch x)' XML &bridge(user/1001)")
    assert endpoints == ["sofia/gateway/main/100"]
    assert applications == (("system", "touch x"),)


def test_an_expansion_inside_braces_loses_the_variable() -> None:
    variables, *_ = read("{a=1,b=${strftime(%Y)}}sofia/internal/1 &park()")
    assert variables == {"a": "1"}


def test_a_parenthesis_ends_the_argument_of_an_application() -> None:
    assert read("sofia/internal/1 '&bridge({name=a (b)}user/2)'")[2] == (("bridge", "{name=a (b"),)


def test_the_inline_dialplan() -> None:
    applications = read("sofia/internal/1 'sleep:1500,hangup:NORMAL_CLEARING' inline")[2]
    assert applications == (("sleep", "1500"), ("hangup", "NORMAL_CLEARING"))


@pytest.mark.parametrize("text", ["", "sofia/internal/1", "a b c d e f g h"])
def test_a_command_of_another_shape_gets_the_usage(text: str) -> None:
    with pytest.raises(UsageError):
        parse_originate(text, lambda _note: None)


def test_an_unclosed_quote_is_an_ordinary_character() -> None:
    assert separate("O'Brien x", " ") == ["O'Brien", "x"]
