"""The command that tells why somebody is not called back (yet)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Any

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.engine_rules import recall_rules
from freeswitch_callback.cli.options import now, output_format
from freeswitch_callback.core.gates import Gate, Verdict
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.engine.attempts import note_rests
from freeswitch_callback.engine.gatekeeper import look
from freeswitch_callback.engine.switchboard import Switchboard
from freeswitch_callback.errors import FreeSwitchError
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import verdicts
from freeswitch_callback.operations.verdicts import Asked

_OPEN_BY_THEMSELVES = (Gate.CAPS, Gate.AGENT)
"""Gates that know when they open, and whose text does not tell it."""

_MARKS = {True: click.style("open", "green"), False: click.style("shut", "red"), None: "?   "}


@click.command()
@click.argument("id_", metavar="ID", type=int)
@output_format
@click.pass_obj
def why(context: Context, id_: int, form: str) -> None:
    """Tell why a missed call is not called back (yet): every gate in order, and when it opens next.

    The engine calls when all of them are open, and goes by the same verdicts. Of a recall that is closed the
    gates are those that `replay` would meet.

    \b
    freeswitch-callback why 17
    freeswitch-callback why 17 --format json
    """
    at = now()
    with context.ledger() as ledger:
        asked = verdicts.ask(ledger, id_, context.gates, at)
        live, not_asked = _live(context, ledger, asked, at)
    gates = verdicts.gate_rows([*asked.verdicts, *live], not_asked)
    if form == "json":
        output.show([verdicts.recall_row(asked) | {"gates": gates}], form, ())
    elif form == "csv":
        output.show(gates, form, verdicts.COLUMNS)
    else:
        most = context.configuration.recall_for(asked.case.queue or "").attempts
        for line in _told(asked, most, gates):
            click.echo(line)


def _live(context: Context, ledger: Ledger, asked: Asked, at: datetime) -> tuple[list[Verdict], str]:
    """What only a running FreeSWITCH knows: the gates `served`, `fairness` and `agent`; or why they were not
    asked."""
    recall = ledger.recall(asked.recall["id"])
    if recall is None or recall.number is None:
        return [], "there is no number to call"
    configuration = context.configuration
    rules = partial(recall_rules, configuration)
    boards, away = {}, []
    for node in configuration.freeswitch:
        board = Switchboard()
        try:
            with closing(context.connect(node)) as connection:
                board.sync(connection)
        except FreeSwitchError as error:
            click.echo(output.printable(f"{node.name}: {error}"), err=True)
            away.append(node.name)
        else:
            board.pages = ledger.people.with_open_page()
            note_rests(board, ledger, node.name, rules, at)
            boards[node.name] = board
    if not boards:
        return [], f"{', '.join(away)} is out of reach"
    return look(recall, boards, context.gates(recall.queue), lambda queue: rules(queue).queue, at), ""


def _told(asked: Asked, most: int, gates: list[dict[str, Any]]) -> Iterator[str]:
    yield output.printable(_state(asked, most))
    if asked.anew:
        yield "If it was replayed now, the gates would say:"
    width = max(len(gate["gate"]) for gate in gates)
    for gate in gates:
        text = gate["text"]
        if gate["opens_at"] is not None and gate["gate"] in _OPEN_BY_THEMSELVES:
            text += f"; opens at {output.printable(gate['opens_at'])}"
        yield f"{gate['gate']:{width}}  {_MARKS[gate['open']]}  {output.printable(text)}".rstrip()
    if all(gate["open"] for gate in gates):
        yield "No gate is shut."


def _state(asked: Asked, most: int) -> str:
    """What the recall is, in one line; it is tried `most` times."""
    recall, attempt = asked.recall, asked.attempt or {}
    when = output.printable
    note = f" ({recall['note']})" if recall["note"] else ""
    match State(recall["state"]):
        case State.WAITING:
            tried = "not tried yet"
            if attempt:
                tried = f"{recall['attempts']} of {most} attempts, the last one at {when(attempt['made_at'])}"
            return (
                f"waiting since {when(recall['created_at'])}, {tried}; expires {when(recall['expires_at'])}"
            )
        case State.CLAIMED | State.DIALLING:
            whose = f" with {attempt['agent']}" if attempt.get("agent") else ""
            return f"being called now by {recall['claimed_by']}{whose}"
        case State.CONNECTED:
            return f"talking with {asked.missed['recalloperator'] or 'an agent'} now"
        case State.UNKNOWN:
            return "the outcome of the last attempt is unknown; settle it with `replay` or `close`"
        case State.CLOSED:
            return (
                f"closed as {recall['closed_as']} by {recall['closed_by'] or 'the engine'} "
                f"at {when(recall['closed_at'])}{note}"
            )
