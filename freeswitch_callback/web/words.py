"""What the pages say, in the reader's language: one catalogue, and times, lengths and numbers in words.

The texts stand in English where they are used, in `_("…")`; `locale/ru.po` has them in Russian.
"""

from __future__ import annotations

import io
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
