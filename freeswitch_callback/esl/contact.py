"""Where a leg is to go: an agent's contact or the configured dial string, taken apart and put together again.

    {domain_name=x,execute_on_pre_bridge='…'}[leg_timeout=8]sofia/internal/1001@10.0.0.5:5060
    └─ variables, in any number of blocks ──────────────────┘└─ endpoint, exactly one ───────┘

A contact is never pasted into an originate. Its own variables are kept where they are plain
(`leg_timeout=8`) and dropped where they are anything else: FusionPBX writes
`{…,execute_on_pre_bridge='…${strftime(%Y)}…'}user/…`, and inside an originate `${…}` breaks the variable and
`execute_on_…` runs an application. What stays is written as `[name=value,…]`, which FreeSWITCH takes behind
our own `{…}` (recording `recall_agent_first_client_hangs_up`).
"""

import re
from dataclasses import dataclass

from freeswitch_callback.errors import UnsafeValue

_ENDPOINT = re.compile(r"[a-z][a-z0-9_.]*/[A-Za-z0-9_.:/@+*#;%~!=-]+(\[[0-9A-Fa-f:.]+\](:[0-9]+)?)?")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_VALUE = re.compile(r"[A-Za-z0-9_.:/@+*#;%~!=-]*")
_RUNS_SOMETHING = ("execute_on_", "api_", "exec_", "bridge_pre_execute_")
_OURS = (
    "origination_",
    "originate_",
    "callback_",
    "ignore_early_media",
    "sip_h_X-Callback-",
    "sip_copy_custom",
)
_CLOSING = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class Destination:
    """One endpoint and the plain variables of its leg."""

    endpoint: str
    variables: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_contact(cls, contact: str) -> "Destination":
        """An agent's contact; what is not plain among its variables is left out.

        `UnsafeValue` if it has several destinations: an originate with a fixed uuid dials only the first.
        """
        blocks, endpoint = _split(contact)
        pairs = [pair for block in blocks for pair in _pairs(block)]
        kept = {name: value for name, value in pairs if _is_plain(name, value)}
        return cls(_endpoint(endpoint, contact), tuple(kept.items()))

    @classmethod
    def strict(cls, dial_string: str) -> "Destination":
        """A dial string out of our configuration: what cannot be kept is an error, somebody wrote it."""
        destination = cls.of_contact(dial_string)
        written = [pair for block in _split(dial_string)[0] for pair in _pairs(block)]
        for name, value in written:
            if (name, value) not in destination.variables:
                raise UnsafeValue(
                    f"dial_string: {name}={value!r:.60} cannot be used here: {dial_string!r:.200}"
                )
        return destination

    def render(self) -> str:
        if not self.variables:
            return self.endpoint
        return "[" + ",".join(f"{name}={value}" for name, value in self.variables) + "]" + self.endpoint


def _split(text: str) -> tuple[list[str], str]:
    """The insides of the `{…}` and `[…]` in front, and what stands behind them."""
    if len(text) > 4000:
        raise UnsafeValue(f"a contact of {len(text)} characters: {text!r:.200}")
    blocks = []
    rest = text.strip(" ")
    while rest[:1] in ("{", "["):
        end = _end_of_block(rest)
        if end < 0:
            raise UnsafeValue(f"a contact whose {rest[0]} is never closed: {text!r:.200}")
        blocks.append(rest[1:end])
        rest = rest[end + 1 :].lstrip(" ")
    return blocks, rest


def _end_of_block(text: str) -> int:
    """Where the bracket that opens the text closes, counted as FreeSWITCH does: without regard to quotes."""
    opening, closing = text[0], _CLOSING[text[0]]
    depth = 0
    for at, character in enumerate(text):
        if character == opening:
            depth += 1
        elif character == closing:
            depth -= 1
            if depth == 0:
                return at
    return -1


def _pairs(block: str) -> list[tuple[str, str]]:
    """`a=b,c='d,e'` cut at its commas outside quotes; `^^:a=b:c=d` brings its own separator."""
    separator = ","
    if block.startswith("^^") and len(block) > 2:
        separator, block = block[2], block[3:]
    pieces, quoted = [""], False
    for character in block:
        if character == "'":
            quoted = not quoted
        if character == separator and not quoted:
            pieces.append("")
        else:
            pieces[-1] += character
    return [
        (name.strip(" "), value)
        for name, equals, value in (piece.partition("=") for piece in pieces)
        if equals
    ]


def _is_plain(name: str, value: str) -> bool:
    return bool(
        _NAME.fullmatch(name) and _VALUE.fullmatch(value) and not name.startswith(_RUNS_SOMETHING + _OURS)
    )


def _endpoint(endpoint: str, contact: str) -> str:
    if any(separator in endpoint for separator in (",", "|", ":_:")):
        raise UnsafeValue(
            f"several destinations where one is needed: {contact!r:.200}. Give the agent one contact; "
            "phones that ring together belong into one user of the directory (user/NAME@DOMAIN)"
        )
    if len(endpoint) > 1000 or not _ENDPOINT.fullmatch(endpoint):
        raise UnsafeValue(f"not usable as a destination, such as user/1001@default: {contact!r:.200}")
    return endpoint
