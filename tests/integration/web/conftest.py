"""One suite over both databases."""

from tests.integration.ledger.conftest import clock, timed
from tests.postgres import ledger_url, postgres_server
from tests.web import ledger, site

__all__ = ["clock", "ledger", "ledger_url", "postgres_server", "site", "timed"]
