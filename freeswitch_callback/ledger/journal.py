"""Who changed what: written in the transaction of the change itself."""

from __future__ import annotations

from freeswitch_callback.ledger.database import Transaction
from freeswitch_callback.ledger.models import Journal


def note(
    transaction: Transaction,
    who: str,
    what: str,
    recall: int | None = None,
    missed: int | None = None,
    **detail: object,
) -> None:
    """`who`: an engine, a node or a person. Of `detail` only what is not empty is kept; no numbers, no
    names."""
    kept = {key: value for key, value in detail.items() if value not in ("", None)}
    transaction.insert(
        Journal, at=transaction.now, who=who, what=what, recall=recall, missed=missed, detail=kept
    )
