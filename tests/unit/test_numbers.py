"""Which of the things that strangers send as their number may be called."""

from __future__ import annotations

import re
from dataclasses import replace

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberType, shortnumberinfo
from phonenumbers.phonemetadata import PhoneMetadata

from freeswitch_callback.core.numbers import (
    LONGEST_EMERGENCY,
    TYPES,
    Number,
    NumberRules,
    country_of,
    read,
    zones_of,
    zones_of_country,
)
from tests import hostile

HOUSE = (re.compile("10[0-9]{2}"), re.compile("[0-9]{3}"))


def rules_of(region: str = "US", *allow: str, **others) -> NumberRules:
    return NumberRules(region, frozenset(allow or {region}), **others)


def prefixes(*given: str) -> frozenset[str]:
    return frozenset(given)


RULES = rules_of("US", "US", "DE", "RU", own=frozenset({hostile.OWN}))


class TestWhatIsCalled:
    @pytest.mark.parametrize(("phone", "rules", "e164"), hostile.GOOD)
    def test_a_good_number_is_called_however_it_is_written(self, phone, rules, e164):
        assert read(phone, NumberRules(**rules)) == Number(e164)

    @pytest.mark.parametrize("phone", hostile.NUMBERS, ids=lambda phone: ascii(phone)[:40])
    @pytest.mark.parametrize("region", ["US", "DE", "RU", "GB", "CU"])
    def test_nothing_hostile_is_called_wherever_we_are(self, region, phone):
        assert read(phone, rules_of(region)).refusal

    @pytest.mark.parametrize("phone", hostile.EVERYTHING, ids=lambda phone: ascii(phone)[:40])
    def test_of_all_that_is_hostile_only_what_is_a_number_gets_one(self, phone):
        number = read(phone, RULES)
        called = {"+49(0)30123456": "+4930123456", "011493012345": "+493012345"}
        assert (number.e164 if number.refusal is None else None) == called.get(phone)

    @pytest.mark.parametrize("phone", [hostile.OWN, "(202) 555-9999", "1 202 555 9999", "0012025559999"])
    @pytest.mark.parametrize("own", [hostile.OWN, "+1 202 555-9999", "+1 1 202 555 9999"])
    def test_our_own_number_is_not_called_however_it_is_written(self, own, phone):
        rules = rules_of("US" if not phone.startswith("00") else "DE", "US", own=frozenset({own}))
        assert read(phone, rules) == Number(hostile.OWN, "number: our own")

    def test_our_own_number_is_not_called_as_an_extension_or_by_its_prefix_either(self):
        house = rules_of(own=frozenset({hostile.OWN}), extensions=(re.compile("[0-9]{10}"),))
        assert read("2025559999", house).refusal == "number: our own"
        allowed = rules_of(own=frozenset({hostile.OWN}), allow_prefixes=frozenset({hostile.OWN}))
        assert read(hostile.OWN, allowed).refusal == "number: our own"

    @pytest.mark.parametrize(
        ("phone", "region", "refusal"),
        [
            ("", "US", "withheld"),
            ("  ", "US", "withheld"),
            ("ANONYMOUS", "US", "withheld"),
            ("0000000000", "US", "withheld"),
            ("Bob", "US", "not a telephone number"),
            ("*06#", "DE", "not a telephone number"),
            ("+" + "1" * 300, "US", "not a telephone number"),
            ("+999123456789", "US", "not a telephone number"),
            ("10", "US", "too short"),
            ("+1202", "DE", "too short"),
            ("+120255501000", "US", "too long"),
            ("+49301234567890123", "US", "too long"),
            ("555-0100", "US", "without its area code"),
            ("+12021110100", "US", "not a valid number"),
            ("411", "US", "a short code"),
            ("11833", "DE", "a short code"),
            ("118 118", "GB", "a short code"),
            ("911", "US", "an emergency number"),
            ("(9) 1-1", "US", "an emergency number"),
            ("+911", "US", "an emergency number"),
            ("+1911", "DE", "an emergency number"),
            ("112", "US", "an emergency number"),
            ("110", "US", "an emergency number"),
            ("+49110", "US", "an emergency number"),
            ("000", "US", "an emergency number"),
            ("999", "DE", "an emergency number"),
            ("106", "CU", "an emergency number"),
            ("102", "RU", "an emergency number"),
        ],
    )
    def test_what_is_nobodys_number_is_refused_with_the_reason(self, phone, region, refusal):
        assert read(phone, rules_of(region)) == Number(None, f"number: {refusal}")

    def test_the_emergency_numbers_of_every_country_are_known(self):
        of_countries = {
            region: PhoneMetadata.short_metadata_for_region(region).emergency
            for region in phonenumbers.SUPPORTED_SHORT_REGIONS
        }
        known = {region: emergency for region, emergency in of_countries.items() if emergency is not None}
        for region, emergency in known.items():
            refusal = read(emergency.example_number, rules_of(region)).refusal
            assert refusal == "number: an emergency number", region
        assert max(max(emergency.possible_length) for emergency in known.values()) <= LONGEST_EMERGENCY

    def test_what_would_be_read_as_another_number_the_next_time_is_no_number(self):
        number = "+37588102450991"
        assert phonenumbers.is_valid_number(phonenumbers.parse(number))
        assert read(number, rules_of("BY")).e164 is None


class TestCountryAndType:
    @pytest.mark.parametrize(
        ("phone", "allow", "refusal"),
        [
            ("+18765551234", "US", "JM is not in numbers.allow"),
            ("+12685551234", "US", "not a valid number"),
            ("+24762345", "US", "AC is not in numbers.allow"),
            ("+5351234567", "US", "CU is not in numbers.allow"),
            ("+447624123456", "GB", "IM is not in numbers.allow"),
            ("+77011234567", "RU", "KZ is not in numbers.allow"),
            ("+19005551234", "US", "a premium_rate number, numbers.types does not name that"),
            ("+499001234567", "DE", "a premium_rate number, numbers.types does not name that"),
            ("+491801234567", "DE", "a shared_cost number, numbers.types does not name that"),
            ("+447012345678", "GB", "a personal_number number, numbers.types does not name that"),
            ("+445512345678", "GB", "a uan number, numbers.types does not name that"),
            ("+447640123456", "GB", "a pager number, numbers.types does not name that"),
            ("+979123456789", "US", "+979 belongs to no country; only numbers.allow_prefixes opens it"),
            ("+881612345678", "US", "+881 belongs to no country; only numbers.allow_prefixes opens it"),
            ("+882161234567", "US", "+882 belongs to no country; only numbers.allow_prefixes opens it"),
            ("+883510012345", "US", "+883 belongs to no country; only numbers.allow_prefixes opens it"),
            ("+870773111632", "US", "+870 belongs to no country; only numbers.allow_prefixes opens it"),
            ("+80012345678", "US", "+800 belongs to no country; only numbers.allow_prefixes opens it"),
        ],
    )
    def test_a_number_that_costs_is_refused_with_the_reason(self, phone, allow, refusal):
        number = read(phone, rules_of(allow))
        assert number.refusal in (f"country: {refusal}", f"number: {refusal}")
        assert number.e164 in (phone, None)

    def test_nothing_that_belongs_to_no_country_is_opened_by_naming_its_region(self):
        assert read("+881612345678", rules_of("US", "001", types=frozenset(TYPES))).refusal

    def test_a_type_is_called_once_it_is_named(self):
        assert read("+19005551234", rules_of(types=frozenset({"premium_rate"}))) == Number("+19005551234")
        assert read("+12025550100", rules_of(types=frozenset({"premium_rate"}))).refusal

    def test_every_type_that_phonenumbers_tells_has_a_name(self):
        assert set(TYPES.values()) == set(PhoneNumberType.values())

    @pytest.mark.parametrize(
        ("allow", "deny", "refusal"),
        [
            ((), (), None),
            ((), ("+4930",), "country: numbers.deny_prefixes has +4930"),
            (("+49301",), ("+4930",), None),
            (("+4930",), ("+49301",), "country: numbers.deny_prefixes has +49301"),
            (("+4930",), ("+4930",), "country: numbers.deny_prefixes has +4930"),
            (("+49", "+493012"), ("+4930", "+4931"), None),
            ((), ("+4931", "+1"), None),
            ((), ("+49", "+4930"), "country: numbers.deny_prefixes has +4930"),
        ],
    )
    def test_of_the_prefixes_that_fit_the_longest_decides(self, allow, deny, refusal):
        rules = rules_of("DE", allow_prefixes=prefixes(*allow), deny_prefixes=prefixes(*deny))
        assert read("+4930123456", rules) == Number("+4930123456", refusal)

    @pytest.mark.parametrize("phone", ["+881612345678", "+18765551234", "+19005551234"])
    def test_an_allowed_prefix_opens_what_no_country_and_type_does(self, phone):
        assert read(phone, rules_of(allow_prefixes=prefixes(phone[:5]))) == Number(phone)
        assert read(phone, rules_of(allow_prefixes=prefixes(phone[:5] + "000"))).refusal

    @pytest.mark.parametrize("phone", ["+1911", "+49110", "+4930", "+120255501000"])
    def test_an_allowed_prefix_makes_no_number_of_what_is_none(self, phone):
        assert read(phone, rules_of(allow_prefixes=prefixes("+1", "+49"))).e164 is None


class TestExtensions:
    def test_the_house_is_called_back_by_its_bare_digits(self):
        assert read("1001", rules_of(extensions=HOUSE)) == Number("1001")
        assert read(" 1001 ", rules_of(extensions=HOUSE)) == Number("1001")

    def test_only_where_the_rules_know_it(self):
        assert read("1001", rules_of()).refusal == "number: too short"

    @pytest.mark.parametrize(
        "phone", ["10011", "11001", "+1001", "1001\n", "10 01", "(1001)", "１００１", "١٠٠١"]
    )
    def test_only_by_all_of_its_digits(self, phone):
        patterns = (re.compile(r"10\d\d"), re.compile(r"10\d\d$"), re.compile(r"1001\n?"))
        assert read(phone, rules_of(extensions=patterns)).refusal

    @pytest.mark.parametrize("phone", ["1", "1" * 16, "anonymous", "", "0000000000", "1,2", "a", "-12"])
    def test_a_pattern_that_takes_anything_takes_2_to_15_digits(self, phone):
        assert read(phone, rules_of(extensions=(re.compile("(?s).*"),))).refusal

    @pytest.mark.parametrize(
        ("phone", "region"), [("110", "US"), ("112", "US"), ("911", "DE"), ("102", "RU"), ("106", "CU")]
    )
    def test_no_emergency_number_is_an_extension(self, phone, region):
        assert read(phone, rules_of(region, extensions=HOUSE)).refusal == "number: an emergency number"

    def test_neither_country_nor_prefix_is_asked(self):
        assert read("123", NumberRules("US", frozenset(), extensions=HOUSE)).refusal is None


class TestPlaces:
    @pytest.mark.parametrize(
        ("number", "country", "zones"),
        [
            ("+4930123456", "DE", ("Europe/Berlin",)),
            ("+12025550100", "US", ("America/New_York",)),
            ("+74951234567", "RU", ("Europe/Moscow",)),
            ("+77011234567", "KZ", None),
            ("+881612345678", None, ()),
            ("+80012345678", None, ()),
            ("+979123456789", None, ()),
            ("+999123456789", None, ()),
            ("+4930", "DE", ()),
            ("1001", None, ()),
            ("2025550100", None, ()),
            ("", None, ()),
            ("anonymous", None, ()),
            ("+12025550100\n", None, ()),
            ("+" + "1" * 70_000, None, ()),
        ],
        ids=lambda value: ascii(value)[:40],
    )
    def test_a_number_tells_its_country_and_its_time_zones(self, number, country, zones):
        assert country_of(number) == country
        assert zones is None or zones_of(number, RULES) == zones

    def test_a_mobile_may_be_anywhere_in_its_country(self):
        zones = zones_of("+79123456789", RULES)
        assert {"Europe/Moscow", "Asia/Vladivostok"} <= set(zones)
        assert zones_of("+79123456789", replace(RULES, zones=(("RU", "Europe/Moscow"),))) == (
            "Europe/Moscow",
        )

    def test_what_is_fixed_is_fixed_for_that_country_only(self):
        rules = replace(RULES, zones=(("DE", "Europe/Rome"), ("RU", "Europe/Moscow")))
        assert zones_of("+4930123456", rules) == ("Europe/Rome",)
        assert zones_of("+79123456789", rules) == ("Europe/Moscow",)
        assert "Asia/Almaty" in zones_of("+77011234567", rules)
        assert zones_of("1001", rules) == zones_of("+881612345678", rules) == ()

    def test_a_zone_that_this_system_does_not_know_is_left_out(self, monkeypatch):
        told = ("Europe/Atlantis", "Europe/Berlin", "Etc/Unknown")
        monkeypatch.setattr("phonenumbers.timezone.time_zones_for_number", lambda number: told)
        assert zones_of("+4930999001", RULES) == ("Europe/Berlin",)
        monkeypatch.setattr("phonenumbers.timezone.time_zones_for_number", lambda number: told[:1])
        assert zones_of("+4930999002", RULES) == ()

    @given(st.text(max_size=20) | st.from_regex(r"\+[0-9]{1,17}", fullmatch=True))
    def test_whatever_stands_there_has_a_place_or_none(self, number):
        assert country_of(number) is None or number.startswith("+")
        assert isinstance(zones_of(number, RULES), tuple)

    def test_a_country_shows_the_zones_of_its_types_of_number(self):
        russia = zones_of_country("RU", rules_of("RU"))
        assert len(russia["mobile"]) > 5
        assert set(russia) <= rules_of().types
        assert "premium_rate" not in russia
        assert "premium_rate" in zones_of_country("RU", rules_of("RU", types=frozenset(TYPES)))
        moscow = zones_of_country("RU", rules_of("RU", zones=(("RU", "Europe/Moscow"),)))
        assert set(moscow.values()) == {("Europe/Moscow",)}


# --- whatever comes ----------------------------------------------------------------------------------------

REGIONS = ["US", "DE", "RU", "GB", "CU", "BY", "AR", "IT", "AU", "NU"]
NUMBERS_OF_EVERYBODY = st.builds(
    lambda region, kind: phonenumbers.example_number_for_type(region, kind) or phonenumbers.PhoneNumber(1, 0),
    st.sampled_from([*sorted(phonenumbers.SUPPORTED_REGIONS), *REGIONS * 10]),
    st.sampled_from(list(TYPES.values())),
)
"""An example of a number of any country and type."""


@st.composite
def written(draw: st.DrawFn) -> str:
    """A number as people, networks and frauds write it, some of its digits changed."""
    number = draw(NUMBERS_OF_EVERYBODY)
    digits = list(phonenumbers.national_significant_number(number))
    for at, digit in draw(
        st.lists(st.tuples(st.integers(0, len(digits) - 1), st.sampled_from("0123456789")))
    ):
        digits[at] = digit
    digits += draw(st.sampled_from(["", "", "0", "1234"]))
    before = draw(st.sampled_from(["+{}", "+{}0", "+{}8", "00{}", "011{}", "{}", "", "0", "8", "1"]))
    return before.format(number.country_code) + "".join(digits)


PHONES = st.one_of(
    st.text(max_size=60),
    st.text("+0123456789 ()-./", max_size=20),
    st.from_regex(r"[0-9]{2,6}", fullmatch=True),
    st.from_regex(r"\+[0-9]{2,15}", fullmatch=True),
    st.sampled_from(hostile.EVERYTHING),
    written(),
)
PREFIXES = st.frozensets(st.from_regex(r"\+[1-9][0-9]{0,3}", fullmatch=True), max_size=4)
ANY_RULES = st.builds(
    NumberRules,
    default_region=st.sampled_from(REGIONS),
    allow=st.frozensets(st.sampled_from(REGIONS)),
    own=st.frozensets(st.sampled_from([hostile.OWN, *(e164 for _, _, e164 in hostile.GOOD)])),
    types=st.frozensets(st.sampled_from(list(TYPES))),
    allow_prefixes=PREFIXES,
    deny_prefixes=PREFIXES,
    extensions=st.sampled_from([(), HOUSE, (re.compile(".*"),)]),
)


@given(PHONES, ANY_RULES)
@example("+37588102450991", rules_of("BY"))
@example("+49301234567890123", rules_of("DE"))
def test_whatever_comes_only_what_the_rules_name_is_called(phone, rules):
    number = read(phone, rules)
    if number.refusal is not None:
        assert number.refusal.startswith(("number: ", "country: "))
        return
    called = number.e164 or ""
    if not called.startswith("+"):
        assert called == phone.strip(" ")
        assert re.fullmatch("[0-9]{2,15}", called)
        assert any(pattern.fullmatch(called) for pattern in rules.extensions)
        assert not shortnumberinfo.is_emergency_number(called, rules.default_region)
        assert called not in {"110", "112", "911", "999", "000"}
        return
    assert re.fullmatch(r"\+[1-9][0-9]{1,14}", called)
    assert called not in rules.own
    parsed = phonenumbers.parse(called)
    national = phonenumbers.national_significant_number(parsed)
    assert not any(
        shortnumberinfo.is_emergency_number(digits, region)
        for digits in (national, called[1:])
        for region in phonenumbers.region_codes_for_country_code(parsed.country_code or 0)
    )
    denied = max((len(p) for p in rules.deny_prefixes if called.startswith(p)), default=0)
    allowed = max((len(p) for p in rules.allow_prefixes if called.startswith(p)), default=0)
    assert allowed > denied or not (allowed or denied)
    if not allowed:
        assert phonenumbers.region_code_for_number(parsed) in rules.allow
        assert phonenumbers.number_type(parsed) in {TYPES[name] for name in rules.types}


@given(PHONES, ANY_RULES)
@example("+37588102450991", rules_of("BY"))
def test_what_was_read_is_read_again_as_the_same(phone, rules):
    number = read(phone, rules)
    if number.e164 is not None:
        assert read(number.e164, rules) == number
