"""The command line. Thin: each command reads its words, calls one operation, prints what it returns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from freeswitch_callback import __version__
from freeswitch_callback.cli.output import printable
from freeswitch_callback.errors import CallbackError

DEFAULT_CONFIG = "/etc/freeswitch-callback/config.toml"


class _Command(NamedTuple):
    module: str
    summary: str
    attribute: str = ""


COMMANDS: Mapping[str, _Command] = {
    "run": _Command("service", "Run the engine: record missed calls, call the clients back."),
    "check": _Command("service", "Tell line by line what is right and what is not."),
    "config": _Command("configuration", "The configuration file: an example, a check, what is in force."),
    "agents": _Command("service", "List the agents of every FreeSWITCH: status, state, queues."),
    "migrate": _Command("service", "Bring the database to this release's schema."),
    "list": _Command("records", "List missed calls, and what became of them.", "list_"),
    "show": _Command("records", "Show everything about one missed call."),
    "why": _Command("why", "Tell why a missed call is not called back (yet)."),
    "report": _Command("report", "Count missed calls, and how many were reached how soon."),
    "export": _Command("records", "Write missed calls as CSV."),
    "add": _Command("changes", "Have a number called back, though no call of it was missed."),
    "import-cdr": _Command("import_cdr", "Record what was missed while no engine ran.", "import_cdr"),
    "replay": _Command("changes", "Call back again: attempts start anew, due now."),
    "postpone": _Command("changes", "Call back later."),
    "close": _Command("changes", "Call nobody back for these."),
    "purge": _Command("retention", "Delete missed calls for good, or who it was."),
    "dnc": _Command("donotcall", "Who must not be called: numbers, and whole prefixes."),
    "breaker": _Command("breakers", "What stopped all recalls to a prefix, and may let it go on."),
    "user": _Command("people", "Who may log in: operators, supervisors, admins."),
    "token": _Command("people", "Which programs may use the API."),
    "demo": _Command("demo", "A busy minute, without any FreeSWITCH."),
    "simulate": _Command("demo", "Be a FreeSWITCH: Event Socket, mod_callcenter, callers."),
}


class _Commands(click.Group):
    """Imports a command when it is asked for: `--help` shall not wait for an engine and a database."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.before: Callable[[], None] = lambda: None
        """Called before each import of a command."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = COMMANDS[name]
        self.before()
        module = import_module(f"freeswitch_callback.cli.{found.module}")
        command: click.Command = getattr(module, found.attribute or name)
        return command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # `list | head`, which click would call a failure
            nobody = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, sys.stdout.fileno())  # else Python complains as it ends
            return 0

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="freeswitch-callback")
@click.option(
    "--config",
    metavar="FILE",
    default=DEFAULT_CONFIG,
    show_default=True,
    envvar="FREESWITCH_CALLBACK_CONFIG",
    help="The configuration, one TOML file.",
)
@click.pass_context
def cli(context: click.Context, config: str) -> None:
    """Calls back the people whose call a FreeSWITCH contact centre missed.

    A caller gives up in the queue, or meets "busy" or "no answer": the call is written down with how long the
    caller waited and why it ended. As soon as an agent is free, the engine reserves that agent, calls the
    client, and connects the two.

    \b
    Try it without a FreeSWITCH:   freeswitch-callback demo
    See whether all is well:       freeswitch-callback check
    Run the engine:                freeswitch-callback run
    See what was missed:           freeswitch-callback list --since 2h

    Exit status: 0 done, 1 failed, 2 usage, 3 configuration, 4 FreeSWITCH or 5 database out of reach.
    """
    from freeswitch_callback.cli.context import Context  # only now: as a command's own module

    context.obj = Context(config)


def main(args: list[str] | None = None, *, before_commands: Callable[[], None] = lambda: None) -> int:
    """Run one command; its exit status. Expected failures are one line on stderr. `before_commands` is called
    before one is imported."""
    cli.before = before_commands
    try:
        result = cli.main(args=args, prog_name="freeswitch-callback", standalone_mode=False)
    except CallbackError as error:
        _complain(error)
        return error.exit_status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 1
    except OSError as error:
        _complain(error)
        return 1  # the disk is full, the output is closed
    return result if isinstance(result, int) else 0


def _complain(error: Exception) -> None:
    """What went wrong may quote what a stranger sent, or a file's name."""
    said = "\n".join(map(printable, str(error).splitlines()))
    click.echo(f"freeswitch-callback: {said}", err=True)
