"""From the configuration to what an engine's pages and API are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from freeswitch_callback.config import Configuration, Web
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.web.process import PagesProcess
from freeswitch_callback.web.site import Settings


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


def pages_process(
    configuration: Configuration, web: Web, engine: Engine, *, log_level: str = "warning"
) -> PagesProcess:
    """Not started yet."""
    database = configuration.database
    return PagesProcess(
        engine,
        database.url,
        database.password,
        settings_of(web),
        web.listen,
        certificate=web.tls_certificate,
        key=web.tls_key,
        log_level=log_level,
    )


@contextmanager
def served(pages: PagesProcess) -> Iterator[PagesProcess]:
    """As long as it is entered. Raises `ConfigurationError` where it cannot listen. Port 0 is any that is
    free: `address` tells which."""
    pages.start()
    try:
        yield pages
    finally:
        pages.close()
