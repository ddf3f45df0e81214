"""Which of the things that strangers send as their number may be called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.core.numbers import NumberRules, read
from tests import hostile

RULES = NumberRules("US", frozenset({"US", "DE", "RU"}), frozenset({"+12025559999"}))


@pytest.mark.parametrize(
    ("phone", "region", "e164"),
    [
        ("+4930123456", "US", "+4930123456"),
        ("030 123456", "DE", "+4930123456"),
        ("8 (495) 123-45-67", "RU", "+74951234567"),
        ("+74951234567", "US", "+74951234567"),
        ("0049 30 123456", "DE", "+4930123456"),
        ("202-555-0100", "US", "+12025550100"),
    ],
)
def test_a_good_number_is_called_however_it_is_written(phone, region, e164):
    number = read(phone, NumberRules(region, RULES.allow))
    assert (number.e164, number.refusal) == (e164, None)


@pytest.mark.parametrize(
    "phone",
    hostile.NUMBERS,
)
def test_what_is_no_number_is_refused(phone):
    number = read(phone, RULES)
    assert number.e164 is None
    assert number.refusal.startswith("number:")


@pytest.mark.parametrize(
    ("phone", "gate"),
    [
        ("+18765551234", "country: JM"),
        ("+24762345", "country:"),
        ("+19005551234", "country: a type"),
        ("+12025559999", "number: our own"),
        ("+979123456789", "country:"),
    ],
)
def test_a_number_that_costs_is_refused_with_the_reason(phone, gate):
    refusal = read(phone, RULES).refusal
    assert refusal.startswith(gate) or refusal == "number: not a valid number"


@given(st.text(max_size=60))
def test_whatever_comes_what_is_dialled_is_digits(phone):
    number = read(phone, RULES)
    assert (number.e164 is None) <= (number.refusal is not None)
    if number.e164 is not None:
        assert number.e164[0] == "+"
        assert number.e164[1:].isascii()
        assert number.e164[1:].isdigit()
