"""Who may use pages and API: user add, list, password, remove; token add, list, revoke."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import output_format
from freeswitch_callback.core.access import Role, Scope
from freeswitch_callback.errors import UsageError
from freeswitch_callback.operations import accounts
from freeswitch_callback.operations.accounts import NewUser

_USER = ("name", "role", "agent", "queues", "made_at")
_TOKEN = ("name", "scope", "queues", "made_by", "made_at")

_queues_option = click.option(
    "--queue",
    "queues",
    multiple=True,
    help="Limits to queues: support@default, or a pattern for all of a tenant. May be repeated.",
)


@click.group()
def user() -> None:
    """People who log in: operators, supervisors, admins.

    \b
    freeswitch-callback user add anna --role operator --agent 1001@default
    freeswitch-callback user list
    """


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice([str(r) for r in Role]), required=True, help="What they may do.")
@click.option("--agent", help="Of an operator: who they are in mod_callcenter, like 1001@default.")
@_queues_option
@click.pass_obj
def add(context: Context, name: str, role: str, agent: str | None, queues: tuple[str, ...]) -> None:
    """Let somebody log in as NAME. Asks for the password, or reads it from the standard input.

    An operator sees and calls back for the queues of their agent; a supervisor sees all queues, or those that
    --queue names, and changes everything there; an admin is not limited.

    \b
    freeswitch-callback user add anna --role operator --agent 1001@default
    freeswitch-callback user add boris --role supervisor --queue '*@tenant'
    """
    new = NewUser(accounts.name_of(name), Role(role), agent, accounts.patterns(queues))
    with context.ledger() as ledger:
        accounts.add_user(ledger, new, _password(), context.who)
    click.echo(f"added: {new.name}")


@user.command()
@click.argument("name")
@click.pass_obj
def password(context: Context, name: str) -> None:
    """Give NAME another password; whoever is logged in with the old one is logged out.

    \b
    freeswitch-callback user password anna
    """
    name = accounts.name_of(name)
    with context.ledger() as ledger:
        ledger.people.set_password(name, accounts.hashed(_password()), context.who)
    click.echo(f"changed: {name}")


@user.command()
@click.argument("name")
@click.pass_obj
def remove(context: Context, name: str) -> None:
    """Let NAME log in no more, and log them out.

    \b
    freeswitch-callback user remove anna
    """
    name = accounts.name_of(name)
    with context.ledger() as ledger:
        ledger.people.remove_user(name, context.who)
    click.echo(f"removed: {name}")


@user.command("list")
@output_format
@click.pass_obj
def list_users(context: Context, form: str) -> None:
    """List who may log in.

    \b
    freeswitch-callback user list
    """
    with context.ledger() as ledger:
        rows = [_row(person, _USER) for person in ledger.people.users()]
    output.show(rows, form, _USER)


@click.group()
def token() -> None:
    """Programs that use the API: each has a token, which can be revoked.

    \b
    freeswitch-callback token add crm --scope operate
    freeswitch-callback token revoke crm
    """


@token.command("add")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice([str(s) for s in Scope]),
    default=str(Scope.READ),
    show_default=True,
    help="read: look. operate: change what becomes of calls. admin: also delete for good.",
)
@_queues_option
@click.pass_obj
def add_token(context: Context, name: str, scope: str, queues: tuple[str, ...]) -> None:
    """Make a token called NAME, and print it: it cannot be read again.

    \b
    freeswitch-callback token add prometheus
    freeswitch-callback token add crm --scope operate --queue support@default
    """
    name, limited_to = accounts.name_of(name), accounts.patterns(queues)
    with context.ledger() as ledger:
        click.echo(accounts.add_token(ledger, name, Scope(scope), context.who, limited_to))


@token.command("list")
@output_format
@click.pass_obj
def list_tokens(context: Context, form: str) -> None:
    """List the tokens, without what lets in.

    \b
    freeswitch-callback token list
    """
    with context.ledger() as ledger:
        rows = [_row(program, _TOKEN) for program in ledger.people.tokens()]
    output.show(rows, form, _TOKEN)


@token.command()
@click.argument("name")
@click.pass_obj
def revoke(context: Context, name: str) -> None:
    """Let nobody in by the token NAME any more.

    \b
    freeswitch-callback token revoke crm
    """
    name = accounts.name_of(name)
    with context.ledger() as ledger:
        ledger.people.revoke(name, context.who)
    click.echo(f"revoked: {name}")


def _row(one: Any, columns: tuple[str, ...]) -> Mapping[str, Any]:
    row = {name: getattr(one, name) for name in columns}
    return row | {"queues": " ".join(row["queues"] or ())}


def _password() -> str:
    """Asked for twice on a terminal; else the first line of the standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError(
            "which password? Type it, or hand it over: printf '%s' \"$SECRET\" | … user add NAME …"
        )
    return line
