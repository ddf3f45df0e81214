"""From what the network gave as a caller's number to one that may be dialled, or the reason why not.

A number that is dialled is rebuilt from parsed digits; nothing of the text that a stranger sent survives.
Everything that is not explicitly allowed is refused: the engine calls numbers that strangers supplied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumberType

_PLAIN = re.compile(r"\+?\(?[0-9][0-9 ().\-/]{0,38}\Z")
_WITHHELD = frozenset(
    {"", "_undef_", "anonymous", "restricted", "unknown", "unavailable", "private", "withheld", "0000000000"}
)
_DIALLABLE = frozenset(
    {
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.MOBILE,
        PhoneNumberType.FIXED_LINE_OR_MOBILE,
        PhoneNumberType.VOIP,
        PhoneNumberType.PERSONAL_NUMBER,
        PhoneNumberType.UAN,
        PhoneNumberType.TOLL_FREE,
    }
)


@dataclass(frozen=True, slots=True)
class NumberRules:
    """`allow`: ISO countries that may be called. `own`: our own numbers, in E.164."""

    default_region: str = "US"
    allow: frozenset[str] = frozenset({"US"})
    own: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Number:
    """`e164` where the text is a number at all; `refusal` names the reason if it may never be called."""

    e164: str | None
    refusal: str | None = None


def read(phone: str, rules: NumberRules) -> Number:
    """What may be dialled for `phone`, as the network gave it."""
    text = phone.strip(" ")
    if text.casefold() in _WITHHELD:
        return Number(None, "number: withheld")
    if not _PLAIN.match(text):
        return Number(None, "number: not a telephone number")
    return _read(text, rules)


@lru_cache(maxsize=10_000)
def _read(text: str, rules: NumberRules) -> Number:
    try:
        parsed = phonenumbers.parse(text, rules.default_region)
    except phonenumbers.NumberParseException:
        return Number(None, "number: not a telephone number")
    region = phonenumbers.region_code_for_number(parsed)
    if parsed.extension or not phonenumbers.is_valid_number(parsed):
        return Number(None, "number: not a valid number")
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if e164 in rules.own:
        return Number(e164, "number: our own")
    if region not in rules.allow:
        return Number(e164, f"country: {region or 'none'} is not in numbers.allow")
    if phonenumbers.number_type(parsed) not in _DIALLABLE:
        return Number(e164, "country: a type of number that is not called")
    return Number(e164)
