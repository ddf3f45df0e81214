"""`[capture] cdr_folder`: where each FreeSWITCH writes its CDRs."""

from __future__ import annotations

import pytest

from freeswitch_callback.config import parse
from freeswitch_callback.errors import ConfigurationError

ONE = """freeswitch = [{ password = "x" }]
"""
TWO = """freeswitch = [{ name = "a", password = "x" }, { name = "b", password = "x" }]
"""


def folders(text):
    return parse(text, {}).capture.cdr_folder


def test_nothing_is_watched_unless_it_is_named():
    assert folders(ONE) == {}
    assert folders(TWO) == {}


def test_a_folder_or_several_of_the_only_node():
    assert folders(ONE + 'capture.cdr_folder = "/x"') == {"fs1": ("/x",)}
    assert folders(ONE + 'capture.cdr_folder = ["/x", "/spool"]') == {"fs1": ("/x", "/spool")}


def test_of_several_nodes_each_has_its_own():
    assert folders(TWO + 'capture.cdr_folder = { b = ["/x"], a = "/y" }') == {"b": ("/x",), "a": ("/y",)}
    assert folders(ONE + 'capture.cdr_folder = { fs1 = "/x" }') == {"fs1": ("/x",)}


@pytest.mark.parametrize(
    "text",
    [
        TWO + 'capture.cdr_folder = "/x"',
        TWO + 'capture.cdr_folder = { c = "/x" }',
        ONE + 'capture.cdr_folder = { fs2 = "/x" }',
    ],
)
def test_whose_it_is_must_be_clear(text):
    with pytest.raises(ConfigurationError, match=r"capture\.cdr_folder must say which \[\[freeswitch\]\]"):
        parse(text, {})


@pytest.mark.parametrize("value", ["1", '"relative"', '["/x", 1]', "{ fs1 = 1 }", '"/a\\u0000b"'])
def test_a_folder_is_an_absolute_path(value):
    with pytest.raises(ConfigurationError, match=r"capture\.cdr_folder must be a folder like"):
        parse(f"{ONE}capture.cdr_folder = {value}", {})
