"""Who changed what: written in the transaction of the change itself."""

from __future__ import annotations

from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.models import Journal
from freeswitch_callback.ledger.prepared import addition


def note(
    transaction: Transaction,
    who: str,
    what: str,
    recall: int | None = None,
    missed: int | None = None,
    **detail: object,
) -> None:
    """`who`: an engine, a node or a person. Of `detail` only what is not empty is kept; no numbers, no
    names. Goes with what is said next (`Transaction.together`)."""
    transaction.together(addition(Journal)(**entry(transaction, who, what, recall, missed, **detail)))


def entry(
    transaction: Transaction,
    who: str,
    what: str,
    recall: int | None = None,
    missed: int | None = None,
    **detail: object,
) -> Row:
    """The row that `note` writes."""
    kept = {key: value for key, value in detail.items() if value not in ("", None)}
    return {
        "at": transaction.now,
        "who": who,
        "what": what,
        "recall": recall,
        "missed": missed,
        "detail": kept,
    }
