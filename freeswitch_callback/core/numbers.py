"""From what the network gave as a caller's number to one that may be dialled, or the reason why not.

A number that is dialled is rebuilt from parsed digits; nothing of the text that a stranger sent survives.
Everything that is not explicitly allowed is refused: the engine calls numbers that strangers supplied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, ValidationResult
from phonenumbers.shortnumberinfo import is_emergency_number, is_valid_short_number_for_region

TYPES: Mapping[str, int] = {
    "fixed_line": PhoneNumberType.FIXED_LINE,
    "mobile": PhoneNumberType.MOBILE,
    "fixed_line_or_mobile": PhoneNumberType.FIXED_LINE_OR_MOBILE,
    "toll_free": PhoneNumberType.TOLL_FREE,
    "premium_rate": PhoneNumberType.PREMIUM_RATE,
    "shared_cost": PhoneNumberType.SHARED_COST,
    "voip": PhoneNumberType.VOIP,
    "personal_number": PhoneNumberType.PERSONAL_NUMBER,
    "pager": PhoneNumberType.PAGER,
    "uan": PhoneNumberType.UAN,
    "voicemail": PhoneNumberType.VOICEMAIL,
    "unknown": PhoneNumberType.UNKNOWN,
}
"""The names by which the configuration calls phonenumbers' types."""

_TYPE_NAMES = {kind: name for name, kind in TYPES.items()}

_NO_COUNTRY = "001"
"""The region of satellites and of whatever else phonenumbers knows that belongs to no country."""

_PLAIN = re.compile(r"\+?\(?[0-9][0-9 ().\-/]{0,38}\Z")
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_EXTENSION = re.compile(r"[0-9]{2,15}")

_WITHHELD = frozenset(
    {"", "_undef_", "anonymous", "restricted", "unknown", "unavailable", "private", "withheld", "0000000000"}
)

_EMERGENCY = frozenset({"000", "08", "110", "112", "118", "119", "911", "999"})
"""Emergency numbers wherever we are: those that 3GPP TS 22.101 lets any phone dial in any country."""

LONGEST_EMERGENCY = 8
"""Digits. phonenumbers knows none with more than six; to ask it takes as long as to parse a number."""

_NO_DIGITS = re.compile("[^0-9]+")

_INVALID = {
    ValidationResult.TOO_SHORT: "number: too short",
    ValidationResult.TOO_LONG: "number: too long",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "number: without its area code",
}


@dataclass(frozen=True, slots=True)
class NumberRules:
    """`allow`: ISO countries that may be called; `types`: the types of number (keys of `TYPES`).
    `allow_prefixes` and `deny_prefixes` (E.164 beginnings like `+4930`) go before both: the longest that fits
    decides, of two alike the one that denies. `own`: our own numbers, in E.164. `extensions`: what numbers of
    the house look like (2 to 15 digits, all of them), who are called back too, unless it is an emergency
    number. `shared`: numbers of whole companies, in E.164: that somebody of them was served says nothing of
    the others. `zones`: the time zone of a country whose numbers have many, as (country, zone).

    Personal numbers (`+44 70…`) and UANs are not among the types unless named: both cost the caller, and the
    first are a well-known fraud.
    """

    default_region: str = "US"
    allow: frozenset[str] = frozenset({"US"})
    own: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset({"fixed_line", "mobile", "fixed_line_or_mobile", "voip", "toll_free"})
    allow_prefixes: frozenset[str] = frozenset()
    deny_prefixes: frozenset[str] = frozenset()
    extensions: tuple[re.Pattern[str], ...] = ()
    shared: frozenset[str] = frozenset()
    zones: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Number:
    """`e164` where the text is a number at all: E.164, or the bare digits of an extension of the house.

    `refusal` names the reason if it may never be called, behind the gate that it is about: `number` or
    `country`. Reading `e164` again by the same rules gives the same.
    """

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
    if _is_emergency(text, rules.default_region):
        return Number(None, "number: an emergency number")
    # With a country code the region says nothing: parsed once for it and for `zones_of`.
    parsed = _parsed(text, None if text.startswith("+") else rules.default_region)
    e164 = _format(parsed) if parsed is not None else None
    if e164 in _own(rules):
        return Number(e164, "number: our own")
    if _EXTENSION.fullmatch(text) and any(pattern.fullmatch(text) for pattern in rules.extensions):
        return Number(text)
    if parsed is None or e164 is None:
        return Number(None, "number: not a telephone number")
    kind = phonenumbers.number_type(parsed)
    refusal = _no_subscriber(parsed, e164, kind, rules.default_region)
    return Number(None, refusal) if refusal else Number(e164, _costs(parsed, e164, kind, rules))


def _no_subscriber(parsed: PhoneNumber, e164: str, kind: int, default_region: str) -> str | None:
    """Why nobody has this number."""
    country = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    # +49110 is the police's 110 to a carrier that takes the country off.
    if _is_emergency(phonenumbers.national_significant_number(parsed), country):
        return "number: an emergency number"
    if kind != PhoneNumberType.UNKNOWN:  # valid where it belongs, which is asked at once
        # phonenumbers knows German numbers of 17 digits; E.164 and whoever dials it end at 15.
        return None if _E164.fullmatch(e164) else "number: too long"
    if is_valid_short_number_for_region(parsed, default_region):
        return "number: a short code"
    return _INVALID.get(phonenumbers.is_possible_number_with_reason(parsed), "number: not a valid number")


def _costs(parsed: PhoneNumber, e164: str, kind: int, rules: NumberRules) -> str | None:
    """Why a call to this number is not paid for: neither its prefix is allowed nor its country and type."""
    allowed, denied = _longest(rules.allow_prefixes, e164), _longest(rules.deny_prefixes, e164)
    if denied and len(denied) >= len(allowed):
        return f"country: numbers.deny_prefixes has {denied}"
    if allowed:
        return None
    region = _region(e164)
    if region in (None, _NO_COUNTRY):
        code = parsed.country_code
        return f"country: +{code} belongs to no country; only numbers.allow_prefixes opens it"
    if region not in rules.allow:
        return f"country: {region} is not in numbers.allow"
    name = _TYPE_NAMES[kind]
    if name not in rules.types:
        return f"country: a {name} number, numbers.types does not name that"
    return None


def country_of(number: str) -> str | None:
    """The ISO country of a number (E.164), None for an extension or one that belongs to no country."""
    return _country(number) if _E164.fullmatch(number) else None


def _country(e164: str) -> str | None:
    region = _region(e164)
    return None if region == _NO_COUNTRY else region


def zones_of(number: str, rules: NumberRules) -> tuple[str, ...]:
    """The IANA time zones in which a number (E.164) may be; () if it does not tell, as an extension."""
    if not _E164.fullmatch(number):
        return ()
    country = _country(number)
    for fixed, zone in rules.zones:
        if fixed == country:
            return (zone,)
    return _zones(number)


def zones_of_country(country: str, rules: NumberRules) -> dict[str, tuple[str, ...]]:
    """By type that may be called: the time zones of phonenumbers' example of such a number, if it has one."""
    examples = {
        name: phonenumbers.example_number_for_type(country, kind)
        for name, kind in TYPES.items()
        if name in rules.types
    }
    return {
        name: zones_of(_format(example), rules) for name, example in examples.items() if example is not None
    }


@lru_cache(maxsize=10_000)
def _region(e164: str) -> str | None:
    parsed = _parsed(e164)
    return phonenumbers.region_code_for_number(parsed) if parsed is not None else None


@lru_cache(maxsize=10_000)
def _zones(number: str) -> tuple[str, ...]:
    from phonenumbers.timezone import time_zones_for_number  # 40 ms that most commands do not need

    parsed = _parsed(number)
    return tuple(filter(_is_zone, time_zones_for_number(parsed))) if parsed is not None else ()


@lru_cache(maxsize=1_000)
def _is_zone(name: str) -> bool:
    """Not "Etc/Unknown", nor one that phonenumbers knows and this system's time zones do not."""
    try:
        ZoneInfo(name)
    except ZoneInfoNotFoundError:
        return False
    return True


@lru_cache(maxsize=100)
def _own(rules: NumberRules) -> frozenset[str]:
    """Our own numbers as they would be read, whichever way they are written."""
    parsed = (_parsed(number, rules.default_region) for number in rules.own)
    return frozenset(_format(number) for number in parsed if number is not None)


def _is_emergency(text: str, region: str) -> bool:
    """All of it: a longer number that begins like one is dialled in E.164 and reaches somebody else."""
    digits = digits_in(text)
    if len(digits) > LONGEST_EMERGENCY:
        return False
    return digits in _EMERGENCY or is_emergency_number(text, region)


def digits_in(text: str) -> str:
    """All of them, and nothing else."""
    return _NO_DIGITS.sub("", text)


def _longest(prefixes: frozenset[str], e164: str) -> str:
    return max((prefix for prefix in prefixes if e164.startswith(prefix)), key=len, default="")


@lru_cache(maxsize=10_000)
def _parsed(text: str, region: str | None = None) -> PhoneNumber | None:
    """None too if the number in E.164 would be read as another one: nobody knows which would be called.

    phonenumbers reads `+37588102450991` as `+3758102450991`, and that as `+375102450991`.
    """
    try:
        parsed = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    e164 = _format(parsed)
    return parsed if e164 == text or _parsed(e164) == parsed else None


def _format(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
