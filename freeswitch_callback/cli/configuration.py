"""Commands about the configuration file: config example, check, show."""

from __future__ import annotations

import click

from freeswitch_callback.cli import config_text, output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.engine_rules import engine_rules
from freeswitch_callback.cli.oddities import odd
from freeswitch_callback.cli.options import now
from freeswitch_callback.errors import ConfigurationError


@click.group()
def config() -> None:
    """The configuration file: an example of it, what is wrong with it, and what is in force.

    \b
    freeswitch-callback config example > callback.toml
    freeswitch-callback --config callback.toml config check
    """


@config.command()
def example() -> None:
    """Write a configuration with every key, what it means and its default.

    As it stands it changes nothing: each key is behind a #. The password of FreeSWITCH and the number that
    clients see are for you to write.

    \b
    freeswitch-callback config example > /etc/freeswitch-callback/config.toml
    """
    click.echo(config_text.example(), nl=False)


@config.command()
@click.pass_obj
def check(context: Context) -> int:
    """Tell all that is wrong with the configuration, and what is odd about it; nothing else is looked at.

    Exit status 3 if anything is wrong. What is odd may be meant: it leaves the exit status 0. `check` looks
    at the database and at each FreeSWITCH too.

    \b
    freeswitch-callback --config callback.toml config check
    """
    try:
        engine_rules(context.configuration)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            click.echo(f"{click.style('bad     ', 'red')} {output.printable(line)}")
        return error.exit_status
    for line in odd(context, now()):
        click.echo(f"{click.style('warning ', 'yellow')} {output.printable(line)}")
    click.echo(f"{click.style('ok      ', 'green')} {output.printable(context.path)}")
    return 0


@config.command()
@click.option(
    "--format", "form", type=click.Choice(["toml", "json"]), default="toml", help="json: a key a line."
)
@click.pass_obj
def show(context: Context, form: str) -> None:
    """Show what is in force: every key, which of them are defaults, and where a password comes from.

    Passwords themselves are never shown.

    \b
    freeswitch-callback --config callback.toml config show
    """
    if form == "json":
        output.show((row for row in config_text.rows(context.configuration) if row["key"]), form, ())
        return
    for line in config_text.shown(context.configuration):
        click.echo(output.printable(line))
