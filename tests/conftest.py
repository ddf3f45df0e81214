"""Everything runs under gevent's patching, as the daemon does; patched before anything else is imported."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import structlog  # noqa: E402

from freeswitch_callback.ledger import server_side  # noqa: E402
from tests.postgres import ledger_url, postgres_server  # noqa: E402, F401

# A first import or a busy machine makes one example slow; what is too slow altogether, pytest-timeout ends.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")

# Every statement is said as those are that an engine has said a few times before.
server_side.SAID_BEFORE = 0


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure, unless it names what cannot be there: a FreeSWITCH."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter and os.environ.get("CI") else []
    if any("FreeSWITCH" not in str(report.longrepr) for report in skipped):
        reporter.write_line("a test was skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _log_as_if_nothing_had_been_configured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _no_secrets_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FREESWITCH_CALLBACK_"):
            monkeypatch.delenv(name)
