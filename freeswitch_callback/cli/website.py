"""From the configuration to what an engine's pages and API are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from freeswitch_callback.config import Configuration, Web
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.web import app
from freeswitch_callback.web.live import Live
from freeswitch_callback.web.server import Server
from freeswitch_callback.web.site import Settings, Site
from freeswitch_callback.web.stream import Broadcaster

_GOODBYE = 0.5
"""Seconds that a stopping engine gives to requests under way."""


def settings_of(web: Web) -> Settings:
    return Settings(
        tls=web.tls_certificate is not None,
        proxies=web.trusted_proxies,
        session_lifetime=web.session_lifetime,
        session_idle=web.session_idle,
        open_metrics=web.open_metrics,
        agents=web.agents,
        queues=web.queues,
        links=web.links,
    )


def website(configuration: Configuration, web: Web, engine: Engine) -> AbstractContextManager[Site]:
    """Serves as long as it is entered. Raises `ConfigurationError` where it cannot listen."""
    database = configuration.database
    # A ledger of its own: what people look up waits for no call, and no call for it.
    ledger = Ledger(database.url, password=database.password, pool=5)
    keys = {"certificate": web.tls_certificate, "key": web.tls_key}
    return served(ledger, engine, settings_of(web), web.listen, **keys)


@contextmanager
def served(
    ledger: Ledger,
    engine: Engine,
    settings: Settings,
    listen: tuple[str, int],
    *,
    certificate: str | None = None,
    key: str | None = None,
) -> Iterator[Site]:
    """As `website`; the ledger is closed with it. Port 0 is any that is free: `Site.address` tells which."""
    site = Site(
        ledger,
        Live(engine),
        gates=lambda queue: engine.rules.gates(queue),
        recall=lambda queue: engine.rules.recall(queue),
        settings=settings,
    )
    broadcaster = Broadcaster(site)
    server = Server(
        listen,
        app.make(site, broadcaster),
        certificate=certificate,
        key=key,
        many_from=partial(Settings.trusts, site.settings),
    )
    try:
        server.start()
        site.address = f"{'https' if certificate else 'http'}://{server.server_host}:{server.server_port}"
        yield site
    finally:
        broadcaster.close()
        server.stop(timeout=_GOODBYE)
        ledger.close()
