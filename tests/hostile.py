"""What strangers send as their number or their name, to be tried at every door, and what must get through.

Text that no database can hold (NUL, lone surrogates) is in `NUMBERS` and `VALUES`, not in `TEXTS`.
"""

from typing import Any

OWN = "+12025559999"
"""Our own number, where the rules name it."""

NOT_UTF8 = b"\xff\xfe".decode("utf-8", "surrogateescape")

_NEITHER = [
    "",
    "anonymous",
    "+",
    "*06#",
    "*#06#",
    "++4930123456",
    "1-800-FLOWERS",
    "+4930123456;ext=99",
    "tel:030123456;phone-context=evil",
    "\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff10\uff11",
    "٠٣٠١٢٣٤٥٦٧٨",
    "+49\u200b30123456",
    "+4930123456\n",
    "sip:100@evil",
    "100,loopback/900",
    "100|loopback/900",
    "100:_:loopback/900",
    "{a=b}100",
    "<a=b>100",
    "${system(x)}",
    "100/default '&system(touch x)' XML",
    "100 &bridge(loopback/900)",
    "[execute_on_answer='system x']100",
    "+" + "1" * 300,
    "a" * 70_000,
    NOT_UTF8,
]

NUMBERS = [
    *_NEITHER,
    "_undef_",
    "Restricted",
    "0000000000",
    "++",
    "110",
    "911",
    "10",
    "+1900\nEvent-Name",
    "\x1b[2J",
    "+18765551234",
    "+24762345",
    "+979123456789",
    "+19005551234",
]
"""None of these may ever be called, unless the rules name Jamaica, Ascension or a costly type."""

_NAMES = [
    "Bob',execute_on_answer='system x",
    "Bob,api_on_answer=system\\sx",
    "Bob}loopback/9",
    "^^:a=b:c=d",
    "$${x}",
    "%{x}",
    "O'Brien",
    "Bob\\",
    "Bob\n\napi system x",
    "Bob\nJob-UUID: forged",
    "Bob\r\nX: 1",
    "Bob%0AEvent-Name: FORGED",
    "Bob%250AX: 1",
    "Bob%0d%0a",
    *(f"{before}{newline}X: 1" for before in ("", "Bob") for newline in "\u2028\x85\x0b\x0c\x1c"),
    "Bob%00x",
    "%c3%28",
    "100%",
    "%zz",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "data: x\n\nevent: y",
    '=HYPERLINK("http://x")',
    "\x1b[2J\x1b]0;x\x07",
    "[red]x[/red]",
    "\u202egnp.exe",
    "'; DROP TABLE x;--",
]

VALUES = [
    *_NEITHER,
    *_NAMES,
    "+49(0)30123456",
    "Bob\x00x",
    "\ud800",
    "a b",
    "a|b",
    '"',
    "`id`",
    "a(b)",
]
"""None of these may become part of a command."""

_STORABLE = [
    value
    for value in dict.fromkeys(NUMBERS + VALUES)
    if len(value) <= 255 and not {"\x00", "\ud800", *NOT_UTF8} & set(value)
]

TEXTS = [
    *_STORABLE,
    "+" + "1" * 254,
    "tel:030;phone-context=evil",
    "011493012345",
    "\\x00",
    "\\udc80",
    "%s",
    "  spaces  ",
    "\t",
    "\U0001f600",
    "é",
    "\ufeff",
    "\uffff",
    "NULL",
    "?",
    ":1",
    "$1",
    "+1",
    "-1",
    "@SUM(A1)",
]
"""All of these are stored and shown as they came."""

EVERYTHING = list(dict.fromkeys([*NUMBERS, *VALUES, *TEXTS, OWN]))

GOOD: list[tuple[str, dict[str, Any], str]] = [
    ("+4930123456", {"default_region": "US", "allow": frozenset({"DE"})}, "+4930123456"),
    ("030 123456", {"default_region": "DE", "allow": frozenset({"DE"})}, "+4930123456"),
    ("030/12 34-56", {"default_region": "DE", "allow": frozenset({"DE"})}, "+4930123456"),
    ("+49(0)30123456", {"default_region": "DE", "allow": frozenset({"DE"})}, "+4930123456"),
    ("0049 30 123456", {"default_region": "DE", "allow": frozenset({"DE"})}, "+4930123456"),
    ("8 (495) 123-45-67", {"default_region": "RU", "allow": frozenset({"RU"})}, "+74951234567"),
    ("+74951234567", {"default_region": "US", "allow": frozenset({"RU"})}, "+74951234567"),
    ("810 49 30 123456", {"default_region": "RU", "allow": frozenset({"DE"})}, "+4930123456"),
    ("+44 (0)20 7946 0958", {"default_region": "US", "allow": frozenset({"GB"})}, "+442079460958"),
    ("0044 20 7946 0958", {"default_region": "DE", "allow": frozenset({"GB"})}, "+442079460958"),
    ("(202) 555-0100", {"default_region": "US", "allow": frozenset({"US"})}, "+12025550100"),
    ("1 202.555.0100", {"default_region": "US", "allow": frozenset({"US"})}, "+12025550100"),
    (" 2025550100 ", {"default_region": "US", "allow": frozenset({"US"})}, "+12025550100"),
    ("011493012345", {"default_region": "US", "allow": frozenset({"DE"})}, "+493012345"),
]
"""As a network gives it, the rules by which it may be called (`NumberRules`' fields), and what is dialled."""
