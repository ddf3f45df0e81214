"""The breakers, which stop all recalls to a prefix once there were too many: breaker list, reset."""

from __future__ import annotations

from dataclasses import asdict

import click

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.options import dry_run_option, output_format
from freeswitch_callback.errors import NotFound, UsageError

_COLUMNS = ("prefix", "tripped_at", "recalls")


@click.group()
def breaker() -> None:
    """What stops all recalls to a prefix once there were too many: list what was stopped, and let it go on.

    \b
    freeswitch-callback breaker list
    freeswitch-callback breaker reset +1876555
    """


@breaker.command("list")
@output_format
@click.pass_obj
def list_(context: Context, form: str) -> None:
    """List the prefixes to which all recalls are stopped, since when, and after how many recalls.

    \b
    freeswitch-callback breaker list
    """
    with context.ledger() as ledger:
        rows = [asdict(tripped) for tripped in ledger.breakers()]
    output.show(rows, form, _COLUMNS)


@breaker.command()
@click.argument("prefixes", metavar="[PREFIX]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that `breaker list` shows.")
@dry_run_option
@click.pass_obj
def reset(context: Context, prefixes: tuple[str, ...], everything: bool, dry_run: bool) -> None:
    """Let recalls to these prefixes go on, once you have looked at who is called there.

    Recalls made so far do not count for it any more. To forbid a prefix for good: `dnc add '+1876555*'`.

    \b
    freeswitch-callback breaker reset +1876555
    freeswitch-callback breaker reset --all
    """
    if bool(prefixes) == everything:
        raise UsageError("reset what? Name a PREFIX as `breaker list` shows it, or --all")
    with context.ledger() as ledger:
        tripped = [breaker.prefix for breaker in ledger.breakers()]
        if unknown := [prefix for prefix in prefixes if prefix not in tripped]:
            raise NotFound(f"recalls to {unknown[0][:60]!r} are not stopped; `breaker list` shows which are")
        if dry_run:
            click.echo(f"would reset: {len(tripped) if everything else len(set(prefixes))}")
            return
        count = ledger.reset_breakers(None if everything else prefixes, by=context.who)
    click.echo(f"reset: {count}")
