"""The command line. Thin: each command reads its words, calls one operation, prints what it returns."""

from __future__ import annotations

import click

from freeswitch_callback import __version__
from freeswitch_callback.cli.breakers import breaker
from freeswitch_callback.cli.changes import add, close, postpone, purge, replay
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.demo import demo, simulate
from freeswitch_callback.cli.donotcall import dnc
from freeswitch_callback.cli.import_cdr import import_cdr
from freeswitch_callback.cli.output import printable
from freeswitch_callback.cli.records import export, list_, show
from freeswitch_callback.cli.report import report
from freeswitch_callback.cli.service import agents, check, migrate, run
from freeswitch_callback.cli.why import why
from freeswitch_callback.config import DEFAULT_PATH
from freeswitch_callback.errors import CallbackError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="freeswitch-callback")
@click.option(
    "--config",
    metavar="FILE",
    default=DEFAULT_PATH,
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
    context.obj = Context(config)


for command in (
    *(run, demo, check, migrate, agents, simulate),
    *(list_, show, why, report, export),
    *(add, import_cdr, replay, postpone, close, purge, dnc, breaker),
):
    cli.add_command(command)


def main(args: list[str] | None = None) -> int:
    """Run one command; its exit status. Expected failures are one line on stderr."""
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
    except BrokenPipeError:
        return 0  # `list | head`
    except OSError as error:
        _complain(error)
        return 1  # the disk is full, the output is closed
    return result if isinstance(result, int) else 0


def _complain(error: Exception) -> None:
    """What went wrong may quote what a stranger sent, or a file's name."""
    said = "\n".join(map(printable, str(error).splitlines()))
    click.echo(f"freeswitch-callback: {said}", err=True)
