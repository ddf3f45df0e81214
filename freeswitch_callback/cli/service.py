"""Commands about the service: run, check, migrate, agents."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import gevent
import structlog
from gevent.event import Event as Flag

from freeswitch_callback.cli import output
from freeswitch_callback.cli.context import Context
from freeswitch_callback.cli.engine_rules import addresses, engine_rules, open_spools, spool_folder
from freeswitch_callback.cli.options import now, output_format
from freeswitch_callback.config import Configuration, load
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.engine.interpreter import do_not_stand_still
from freeswitch_callback.engine.stderr import log_to_stderr
from freeswitch_callback.engine.systemd import Systemd
from freeswitch_callback.engine.watchdog import Watchdog
from freeswitch_callback.engine.webhooks import Target, Webhooks
from freeswitch_callback.errors import CallbackError, ConfigurationError, DatabaseUnreachable
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import checks
from freeswitch_callback.operations.checks import Level

if TYPE_CHECKING:
    from freeswitch_callback.web.process import PagesProcess

log = structlog.get_logger(__name__)

_RELOAD_TAKES = 1.0
"""Seconds after which systemd is told that a reload is done."""


@click.command()
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.pass_obj
def run(context: Context, log_level: str) -> None:
    """Record missed calls and call the clients back, until SIGTERM or Ctrl-C.

    Waits for FreeSWITCH and for the database where they are away, and upgrades the database's schema by
    itself. Calls that are up when it stops go on; the next `run` follows them. SIGHUP has it read its
    configuration again: a broken one is refused as a whole, and the old one stays.

    \b
    freeswitch-callback --config callback.toml run
    """
    log_to_stderr(log_level)
    rules = engine_rules(context.configuration)
    database = context.configuration.database
    ledger = Ledger(database.url, password=database.password)
    spools = open_spools(context.configuration, ledger.path)
    engine = Engine(ledger, addresses(context.configuration), rules, spools=spools)
    systemd = Systemd()
    folders = [spool.path.parent for spool in spools.values()]
    folders += [ledger.path.parent] if ledger.path is not None else []
    watching = gevent.spawn(Watchdog(engine, systemd, folders).run)
    asked_to_reload = Flag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: engine.stop())
    signal.signal(signal.SIGHUP, lambda *_: asked_to_reload.set())
    try:
        with (
            _webhooks(context.configuration, engine),
            _website(context.configuration, engine, log_level) as pages,
        ):
            reloading = gevent.spawn(_reload, context, engine, asked_to_reload, systemd, pages)
            do_not_stand_still()
            try:
                engine.run()
            finally:
                reloading.kill()
    except DatabaseUnreachable:
        click.echo("stopped while waiting for the database", err=True)
    finally:
        watching.kill()
        with gevent.Timeout(1.0, False):  # a write that waits for a lock must not hold up the end
            ledger.close()
        for spool in spools.values():
            spool.close()


@contextmanager
def _webhooks(configuration: Configuration, engine: Engine) -> Iterator[None]:
    """Tells whoever is to be told, as long as it is entered."""
    if not configuration.webhooks:
        yield
        return
    database = configuration.database
    with closing(Ledger(database.url, password=database.password, pool=3)) as ledger:
        targets = [
            Target(hook.name, hook.url, hook.secret or "", hook.events, hook.private)
            for hook in configuration.webhooks
        ]
        telling = gevent.spawn(Webhooks(ledger, engine.name, tuple(targets)).run)
        try:
            yield
        finally:
            telling.kill(timeout=1.0)


@contextmanager
def _website(configuration: Configuration, engine: Engine, log_level: str) -> Iterator[PagesProcess | None]:
    """Served as long as it is entered. The engine does not wait until they are; but where they cannot be
    served as they are configured it stops, and why is raised at the end."""
    if configuration.web is None:
        yield None
        return
    from freeswitch_callback.cli.website import pages_process  # an engine without pages has no need of it

    pages = pages_process(configuration, configuration.web, engine, log_level=log_level)
    failed: list[CallbackError] = []

    def start() -> None:
        try:
            pages.start()
        except CallbackError as error:
            failed.append(error)
            engine.stop()

    starting = gevent.spawn(start)
    try:
        yield pages
    finally:
        starting.kill()
        pages.close()
        if failed:  # whatever came of stopping
            raise failed[0]


def _reload(
    context: Context, engine: Engine, asked: Flag, systemd: Systemd, pages: PagesProcess | None
) -> None:
    """Read the configuration again whenever asked to."""
    running = context.configuration
    while asked.wait():
        asked.clear()
        systemd.reloading()
        # The recalls that wait are looked at anew once the database is there; nobody waits for that.
        done = gevent.spawn_later(_RELOAD_TAKES, systemd.reloaded)
        try:
            _read_again(context, engine, running, pages)
        except DatabaseUnreachable:
            return  # stopping
        finally:
            done.kill()
        systemd.reloaded()


def _read_again(context: Context, engine: Engine, running: Configuration, pages: PagesProcess | None) -> None:
    try:
        fresh = load(context.path)
        rules = engine_rules(fresh)
    except ConfigurationError as error:
        log.error("configuration_refused", error=str(error), hint="the old one stays")
        return
    if _read_once(fresh) != _read_once(running):
        log.warning(
            "restart_needed",
            hint="[database], [[freeswitch]], capture.spool, [[webhook]], and where [web] listens stay",
        )
    engine.reload(rules)
    if pages is not None and fresh.web is not None:
        from freeswitch_callback.cli.website import settings_of

        pages.settings = settings_of(fresh.web)
    log.info("configuration_reloaded", path=context.path)


def _read_once(configuration: Configuration) -> tuple[object, ...]:
    web = configuration.web
    listens = None if web is None else (web.listen, web.tls_certificate, web.tls_key)
    hooks = configuration.webhooks
    return configuration.database, configuration.freeswitch, configuration.capture.spool, listens, hooks


@click.command()
@click.pass_obj
def migrate(context: Context) -> None:
    """Bring the database to this release's schema. May be run twice, and by two machines at once.

    \b
    freeswitch-callback migrate
    """
    with context.ledger(verified=False) as ledger:
        applied = ledger.migrate()
        for name in applied:
            click.echo(f"applied {name}")
        click.echo(f"schema {ledger.schema_version()}" + ("" if applied else ", nothing to do"))


@click.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.pass_obj
def check(context: Context, form: str) -> int:
    """Tell line by line what is right and what is not: configuration, database, each FreeSWITCH.

    Also disks that run full, clocks that differ, calls that wait in a spool for the database; and what waits
    for a person: breakers that have stopped all recalls to a prefix, recalls whose outcome is unknown or
    whose FreeSWITCH is not in the configuration any more, countries that the calling hours leave next to no
    time. The exit status is that of the first thing that is not right; warnings leave it 0.

    \b
    freeswitch-callback check
    freeswitch-callback check --format json
    """
    findings = list(_findings(context))
    for finding in findings:
        if form == "json":
            output.show(
                [{"level": str(finding.level), "what": finding.what, "text": finding.text}], "json", ()
            )
        else:
            colour = {Level.OK: "green", Level.WARNING: "yellow", Level.BAD: "red"}[finding.level]
            level = click.style(f"{finding.level:8}", colour)
            click.echo(f"{level} {finding.what}: {output.printable(finding.text)}")
    return next((f.exit_status for f in findings if f.exit_status), 0)


def _findings(context: Context) -> Any:
    try:
        configuration = context.configuration
        engine_rules(configuration)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            yield checks.Finding(Level.BAD, "configuration", line, error.exit_status)
        return
    yield checks.Finding(Level.OK, "configuration", context.path)
    try:
        with context.ledger(verified=False) as ledger:
            told = list(checks.check_database(ledger, configuration.database.url))
            yield from told
            if all(finding.level is Level.OK for finding in told):
                yield from checks.check_breakers(ledger)
                yield from checks.check_unknown(ledger)
                nodes = [node.name for node in configuration.freeswitch]
                yield from checks.check_stranded(ledger, nodes)
            spools = spool_folder(configuration, ledger.path)
            folders = [spools] if ledger.path is None else [ledger.path.parent, spools]
    except CallbackError as error:
        yield checks.Finding(Level.BAD, "database", str(error), error.exit_status)
    else:
        yield from checks.check_disks(folders)
        yield from checks.check_spools([node.name for node in configuration.freeswitch], spools)
    yield from checks.check_calling_hours(
        configuration.numbers.allow,
        [("recall", context.gates(None)), *((queue, context.gates(queue)) for queue in configuration.queues)],
        now(),
    )
    wants = configuration.capture.rules().wants
    recalls = (configuration.recall, *configuration.queues.values())
    for node in configuration.freeswitch:
        yield from checks.check_node(
            partial(context.connect, node),
            node.name,
            wants,
            {recall.connect for recall in recalls if recall.connect},
            node.name in configuration.capture.cdr_folder,
        )


@click.command()
@output_format
@click.pass_obj
def agents(context: Context, form: str) -> None:
    """List the agents of every FreeSWITCH: status, state, queues.

    \b
    freeswitch-callback agents
    """
    rows: list[dict[str, Any]] = []
    for node in context.configuration.freeswitch:
        connection = context.connect(node)
        try:
            rows += checks.agent_rows(connection, node.name)
        finally:
            connection.close()
    output.show(rows, form, ("node", "agent", "status", "state", "queues", "last_bridge_end"))
