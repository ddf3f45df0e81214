"""What the pages say, in the reader's language: one catalogue, and times, lengths and numbers in words.

The texts stand in English where they are used, in `_("…")`; `locale/ru.po` has them in Russian.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files

import phonenumbers
from babel import Locale
from babel.dates import format_datetime, format_timedelta, get_day_names
from babel.messages import mofile, pofile
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations

from freeswitch_callback.core.hours import Hours

LANGUAGES = {"en": "English", "ru": "Русский"}


def _(text: str) -> str:
    """Marks a text for the catalogue; it is looked up where it is shown."""
    return text


REASONS = {
    "abandoned": _("gave up waiting in the queue"),
    "timeout": _("nobody answered within the queue's time"),
    "no_agent": _("nobody was logged in to the queue"),
    "exit_key": _("left the queue by pressing a key"),
    "busy": _("the extension was busy"),
    "no_answer": _("the extension did not answer"),
    "cancelled": _("hung up while the extension rang"),
    "failed": _("the call broke off"),
    "requested": _("asked to be called back"),
    "manual": _("entered by hand"),
}
STATES = {
    "waiting": _("waiting"),
    "claimed": _("offered to an operator"),
    "dialling": _("being called"),
    "connected": _("talking"),
    "unknown": _("outcome unknown"),
    "closed": _("closed"),
}
CLOSED_AS = {
    "recalled": _("called back"),
    "served_inbound": _("called again and was answered"),
    "served_outbound": _("reached by an operator"),
    "exhausted": _("not reached"),
    "expired": _("too long ago"),
    "rejected": _("rejected by an operator"),
    "blocked": _("may not be called"),
    "cancelled": _("cancelled"),
}
OUTCOMES = {
    "connected": _("talked"),
    "busy": _("busy"),
    "no_answer": _("no answer"),
    "failed": _("failed"),
    "unallocated": _("there is no such number"),
    "client_rejected": _("the client rejected it"),
    "client_hung_up": _("the client hung up"),
    "agent_no_answer": _("the operator did not answer"),
    "agent_declined": _("the operator declined"),
    "unknown": _("unknown"),
}
RESULTS = {
    "reached": _("reached"),
    "voicemail": _("voicemail"),
    "wrong_person": _("wrong person"),
    "bad_line": _("bad line"),
    "call_again": _("asked to be called again"),
}
AGENT_STATES = {
    "Waiting": _("free"),
    "Receiving": _("ringing"),
    "In a queue call": _("on a call"),
    "Idle": _("idle"),
    "Reserved": _("reserved for a recall"),
}
AGENT_STATUSES = {
    "Available": _("available"),
    "Available (On Demand)": _("available on demand"),
    "On Break": _("on break"),
    "Logged Out": _("logged out"),
}
GATES = {
    "number": _("there is no number to call"),
    "country": _("this country is not called"),
    "do not call": _("do-not-call list"),
    "short rings": _("gave up too soon"),
    "queue": _("the queue is not called back"),
    "breaker": _("stopped by the breaker"),
    "caps": _("called often enough for now"),
    "due": _("not due yet"),
    "calling hours": _("outside calling hours"),
    "served": _("on the line now"),
    "fairness": _("callers are waiting"),
    "agent": _("no operator is free"),
}

GATE_NAMES = {
    "number": _("number"),
    "country": _("country"),
    "do not call": _("do-not-call list"),
    "short rings": _("length of the wait"),
    "queue": _("queue"),
    "breaker": _("breaker"),
    "caps": _("limits of calls"),
    "due": _("due time"),
    "calling hours": _("calling hours"),
    "served": _("on the line"),
    "fairness": _("callers who wait"),
    "agent": _("operator"),
}
WHY = (
    _("%(why)s; opens by `breaker reset`"),
    _("too short"),
    _("too long"),
    _("without its area code"),
    _("withheld"),
    _("not a telephone number"),
    _("not a valid number"),
    _("an emergency number"),
    _("a short code"),
    _("our own"),
    _("there is no number to call"),
    _("numbers.deny_prefixes has %(prefix)s"),
    _("+%(code)s belongs to no country; only numbers.allow_prefixes opens it"),
    _("%(country)s is not in numbers.allow"),
    _("a %(kind)s number, numbers.types does not name that"),
    _("%(entry)s is on the list (%(note)s)"),
    _("%(entry)s is on the list"),
    _("gave up after %(seconds)s s, min_wait is %(least)s s"),
    _("no queue whose agents could call back"),
    _("all recalls to %(prefix)s… are stopped since %(since)s"),
    _("%(recalls)s to %(prefix)s… within %(seconds)s s"),
    _("%(recalls)s to %(whom)s within %(span)s"),
    _("this number"),
    _("anybody"),
    _("24 h"),
    _("an hour"),
    _("a minute"),
    _("%(recalls)s of %(queue)s up now"),
    _("the recall is %(state)s"),
    _("expired at %(at)s"),
    _("from %(at)s on"),
    _("since %(at)s"),
    _("never open in %(where)s"),
    _("opens %(day)s %(time)s %(where)s"),
    _("%(zone)s (open in all %(number)s time zones of the number)"),
    _("on a call or in a queue right now"),
    _("%(why)s until %(until)s"),
    _("free: %(who)s"),
    _("%(number)s of %(queue)s"),
    _("%(free)s free, %(waiting)s come first"),
    _("waits for %(agent)s, whom the client talked to last"),
    _("%(rule)s: %(number)s who wait live come first"),
    _("none of the %(number)s agents of %(queue)s is on duty"),
    _("no agent of %(queue)s is on duty"),
    _("none of the %(number)s agents on duty has the page open"),
    _("none of the %(number)s agents on duty is free"),
    _("not asked: %(why)s"),
    _("%(nodes)s is out of reach"),
)
"""What a gate may say; the first that fits is what was said. A part whose name is in `_ITSELF` is another of
these, `recalls` a number of them, `day` a day of the week."""
_ITSELF = ("why", "whom", "span", "who", "where", "state")


@dataclass(frozen=True, slots=True)
class Words:
    """One language. Times are aware datetimes, lengths seconds."""

    language: str
    translations: NullTranslations

    @property
    def locale(self) -> Locale:
        return Locale.parse(self.language)

    def text(self, message: str) -> str:
        return str(self.translations.gettext(message))

    def texts(self, one: str, many: str, number: int) -> str:
        return str(self.translations.ngettext(one, many, number))

    def word(self, table: Mapping[str, str], key: str | None) -> str:
        """What a code is called; itself where nobody has named it."""
        return self.text(table[key]) if key is not None and key in table else (key or "")

    def gate(self, said: str) -> str:
        """A gate and what it says, `due: from 2026-11-23 08:00 UTC on`, as it is on record."""
        gate, _colon, why = said.partition(": ")
        return ": ".join(part for part in (self.word(GATES, gate), self.why(why)) if part)

    def why(self, said: str) -> str:
        """What a gate says; itself where nobody has named it."""
        return said if self.language == "en" else self._why(said) or said

    def _why(self, said: str) -> str | None:
        for template in WHY:
            found = _pattern(template).fullmatch(said)
            parts = None if found is None else self._parts(found.groupdict())
            if parts is not None:
                return self.text(template) % parts
        return None

    def _parts(self, parts: Mapping[str, str]) -> dict[str, str] | None:
        """None where a part that has to be one of ours is none."""
        told = {name: self._part(name, part) for name, part in parts.items()}
        if told.get("why", "") is None:
            return None
        return {name: parts[name] if part is None else part for name, part in told.items()}

    def _part(self, name: str, part: str) -> str | None:
        if name == "state":
            return self.word(STATES, part)
        if name == "day" and part[:3] in _DAYS:
            days = get_day_names("abbreviated", locale=self.locale)
            return f"{days[_DAYS.index(part[:3])]}{part[3:]}"
        if name == "recalls":
            number = part.split()[0]
            return self.texts("%(number)s recall", "%(number)s recalls", int(number)) % {"number": number}
        return self._why(part) if name in _ITSELF else part

    def length(self, seconds: float | None) -> str:
        """`45 s`, `2 min 5 s`, `1 h 10 min`."""
        if seconds is None:
            return "–"
        whole = max(0, round(seconds))
        hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
        units = [(hours, self.text("h")), (minutes, self.text("min")), (rest, self.text("s"))]
        parts = [f"{self.number(value)}\N{NO-BREAK SPACE}{unit}" for value, unit in units if value]
        return " ".join(parts[:2]) or f"0\N{NO-BREAK SPACE}{self.text('s')}"

    def ago(self, at: datetime, now: datetime) -> str:
        """`3 minutes ago`, `in 2 hours`."""
        return format_timedelta(at - now, add_direction=True, locale=self.locale, threshold=1.2)

    def exact(self, at: datetime) -> str:
        return format_datetime(at.astimezone(UTC), "medium", locale=self.locale) + " UTC"

    def hours(self, hours: Hours) -> str:
        """`Mon Tue 09:00–20:00; …`."""
        names = get_day_names("abbreviated", locale=self.locale)
        told = []
        for window in hours.windows:
            days = " ".join(names[day] for day in sorted(window.days))
            told.append(f"{days} {_clock(window.start)}–{_clock(window.end)}")
        return "; ".join(told)

    def number(self, value: float) -> str:
        return str(format_decimal(value, locale=self.locale))

    def percent(self, part: float | None) -> str:
        return "–" if part is None else str(format_percent(part, locale=self.locale))


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_PART = re.compile(r"%\\\(([a-z]+)\\\)s")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    shapes = {
        "recalls": "[0-9]+ recalls?",
        "number": "[0-9]+",
        "zone": "[^ ]+",
        "time": "[0-9:]+",
        "day": "[A-Z][a-z]{2}(?: [0-9-]+)?",
    }
    parts = _PART.sub(lambda part: f"(?P<{part[1]}>{shapes.get(part[1], '.+')})", re.escape(template))
    return re.compile(parts, re.DOTALL)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@cache
def words(language: str) -> Words:
    if language not in LANGUAGES or language == "en":
        return Words("en", NullTranslations())
    source = files(__package__).joinpath(f"locale/{language}.po").read_bytes()
    compiled = io.BytesIO()
    mofile.write_mo(compiled, pofile.read_po(io.BytesIO(source), locale=language))
    compiled.seek(0)
    return Words(language, Translations(compiled))


def language_of(wanted: str | None, accepted: Callable[[list[str]], str | None]) -> str:
    """The one that somebody chose, or else what `accepted` finds among those there are."""
    return wanted if wanted in LANGUAGES else accepted(list(LANGUAGES)) or "en"


@lru_cache(10_000)
def phone(number: str | None) -> str:
    """A number as people read it; what is none stays as it is."""
    if not number or not number.startswith("+"):
        return number or ""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL))
