"""What the pages and the API are made from: one object, given explicitly."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from freeswitch_callback.core.access import Access, Role
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations.recalls import Gates
from freeswitch_callback.web.live import Live
from freeswitch_callback.web.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says. `tls`: we encrypt ourselves; `proxies`: networks of those who do it for
    us; lengths of time in seconds. `agents` and `queues` are display names, `links` templates of
    addresses."""

    tls: bool = False
    proxies: tuple[str, ...] = ()
    session_lifetime: float = 12 * 3600.0
    session_idle: float = 3600.0
    open_metrics: bool = False
    agents: Mapping[str, str] = field(default_factory=dict)
    queues: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    def trusts(self, address: str) -> bool:
        """Whether this is a proxy whose word on the client counts."""
        try:
            asked = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(asked in ipaddress.ip_network(network) for network in self.proxies)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Site:
    """`ledger` is one of its own: what people look up waits for no call, and no call for it. `settings` may
    be replaced while it runs."""

    ledger: Ledger
    live: Live
    gates: Gates
    recall: Callable[[str], RecallRules]
    settings: Settings = Settings()
    now: Callable[[], datetime] = _now
    by_address: Throttle = field(default_factory=lambda: Throttle(20, within=300.0))
    by_user: Throttle = field(default_factory=lambda: Throttle(20, within=300.0))

    def seen_by(self, access: Access) -> Access:
        """With the queues that an operator's agent serves at this moment."""
        if access.role is not Role.OPERATOR:
            return access
        return Access(
            name=access.name,
            scope=access.scope,
            queues=self.live.served_by(access.agent or ""),
            agent=access.agent,
            role=access.role,
            many=False,
        )
