"""What is on record, and the only place that knows the database: `Ledger`, over SQLite or PostgreSQL."""

from freeswitch_callback.ledger.claims import Judge
from freeswitch_callback.ledger.filters import Filter, Order, RecallFilter
from freeswitch_callback.ledger.late import Late
from freeswitch_callback.ledger.leases import Held, Reserved
from freeswitch_callback.ledger.ledger import Ledger
from freeswitch_callback.ledger.limits import Breaker, CapsOf
from freeswitch_callback.ledger.operations import OpeningOf, Replayed
from freeswitch_callback.ledger.operators import Became, Card
from freeswitch_callback.ledger.recording import NO_NUMBER, Recorded, Told, completed
from freeswitch_callback.ledger.report import Report
from freeswitch_callback.ledger.retention import Affected
from freeswitch_callback.ledger.tellings import Answered, CalledOut, NotTaken, Outcome, Telling
from freeswitch_callback.ledger.views import Away, Listed, Shown, Summary

__all__ = [
    "NO_NUMBER",
    "Affected",
    "Answered",
    "Away",
    "Became",
    "Breaker",
    "CalledOut",
    "CapsOf",
    "Card",
    "Filter",
    "Held",
    "Judge",
    "Late",
    "Ledger",
    "Listed",
    "NotTaken",
    "OpeningOf",
    "Order",
    "Outcome",
    "RecallFilter",
    "Recorded",
    "Replayed",
    "Report",
    "Reserved",
    "Shown",
    "Summary",
    "Telling",
    "Told",
    "completed",
]
