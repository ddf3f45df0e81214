"""One suite over both databases."""

from tests.postgres import ledger_url, postgres_server
from tests.web import ledger, site

__all__ = ["ledger", "ledger_url", "postgres_server", "site"]
