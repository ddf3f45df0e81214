"""The contact centre of the live suite: our daemon on a real FreeSWITCH, and the people who call."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import gevent

from freeswitch_callback.ledger import Filter, Ledger
from tests.live.switch import AGENTS, PASSWORD, Switch

OURS = "+12025559999"
MODES = {"support": "agent-first", "client": "client-first", "through": "queue"}
CONFIGURATION = """
database.url = "{database}"
freeswitch = [{{ port = {port}, password = "{password}" }}]
numbers = {{ default_region = "US", allow = ["US"] }}
[capture]
min_wait = "1s"
cdr_folder = "{cdrs}"
spool = "{spool}"
direct = [{{ context = "default", destination = '^1[01]\\d\\d$', queue = "quiet@default" }}]
[caps]
per_number = 0
per_prefix = 0
breaker = {{ recalls = 100000, within = "10m" }}
[recall]
hours = "always"
dial_string = "sofia/gateway/world/{{number}}"
caller_id_number = "+12025559999"
retry = {{ busy = "1h", no_answer = "1h", failed = "1h" }}
ring_timeout = "3s"
min_talk = "1s"
poll = "1s"
[recall.queues."support@default"]
mode = "agent-first"
[recall.queues."client@default"]
mode = "client-first"
[recall.queues."through@default"]
mode = "queue"
[recall.queues."asking@default"]
mode = "agent-first"
connect = "callback_connect"
ring_timeout = "6s"
[recall.queues."told@default"]
mode = "client-first"
connect = "callback_connect"
ring_timeout = "6s"
[recall.queues."paged@default"]
mode = "agent-first"
accept = "page"
accept_within = "30s"
[recall.queues."quiet@default"]
hours = {{ days = "{another_day}", from = "09:00", to = "18:00" }}
"""
"""Who is missed in the queue `quiet` is not called back today, so that its agents are there for who calls."""

KINDS = {"presses 1": 4, "answers": 5, "busy": 6, "silent": 7, "unallocated": 8, "hangs up early": 9}
"""What a client does when called, and the digit of the number that has them do so (`conf/outside.xml`)."""


class NotInTime(AssertionError):
    """Something that was waited for did not come."""


class Centre:
    """`engine`: the daemon as a process of its own, and what it says in `folder`/engine.log."""

    def __init__(self, switch: Switch, folder: Path, database: str) -> None:
        self.switch = switch
        self.folder = folder
        self.database = "PostgreSQL" if database.startswith("postgresql") else "SQLite"
        self._numbers = count(1)
        self._agents = {queue: iter(numbers) for queue, numbers in AGENTS.items()}
        another_day = (datetime.now(UTC) + timedelta(days=3)).strftime("%a").lower()
        self.configuration = folder / "callback.toml"
        self.configuration.write_text(
            CONFIGURATION.format(
                database=database, port=switch.port, password=PASSWORD, cdrs=switch.cdrs,
                spool=folder / "spool", another_day=another_day,
            )
        )  # fmt: skip
        self.ledger = Ledger(database)
        self.ledger.migrate()
        self._process: subprocess.Popen[bytes] | None = None
        self._far: dict[str, str] = {}  # by the leg inside: the caller's own end

    # --- the daemon ---------------------------------------------------------------------------------------

    def start(self) -> None:
        log = self.folder / "engine.log"
        before = log.read_text().count("node.up") if log.exists() else 0
        words = [sys.executable, "-m", "freeswitch_callback", "--config", str(self.configuration), "run"]
        with log.open("ab") as out:
            self._process = subprocess.Popen(words, stdout=out, stderr=out, cwd=Path(__file__).parents[2])
        self.until(lambda: log.read_text().count("node.up") > before, 30, "the engine to be up")
        gevent.sleep(1.5)  # one poll: it has looked at the agents

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        status = self._process.wait(timeout=20)
        self._process = None
        return status

    def check(self) -> tuple[int, str]:
        return self._command("check")

    # --- people -------------------------------------------------------------------------------------------

    def client(self, kind: str = "answers") -> str:
        """A number nobody has called from yet, whose owner does that when called."""
        return f"+120255{KINDS[kind]}{next(self._numbers):04d}"

    def agent(self, queue: str, phone: str = "") -> str:
        """One of this queue who was in no call yet, with a phone that does that."""
        number = next(self._agents[queue])
        self.switch.api(f"global_setvar phone_{number}={phone}")
        return f"{number}@default"

    def on(self, agent: str) -> None:
        self.switch.api(f"callcenter_config agent set status {agent} Available")

    def off(self, agent: str) -> None:
        self.switch.api(f"callcenter_config agent set status {agent} 'Logged Out'")

    def state(self, agent: str) -> str:
        rows = self.switch.api(f"callcenter_config agent list {agent}").splitlines()
        return dict(zip(rows[0].split("|"), rows[1].split("|"), strict=True))["state"]

    def calls(self, number: str, to: str, *, name: str = "Anna") -> str:
        """Somebody calls; the uuid of their leg inside."""
        far = str(uuid.uuid4())
        variables = (
            f"origination_uuid={far},origination_caller_id_number={number},origination_caller_id_name={name}"
        )
        where = f"sofia/inside/{to}@127.0.0.1:{self.switch.sip}"
        before = self.switch.leg(number)
        self.switch.api(f"bgapi originate {{{variables}}}{where} &park()")
        self.until(lambda: self.switch.leg(number) not in (None, before), 15, f"{number} to call")
        inside = self.switch.leg(number) or ""
        self._far[inside] = far
        return inside

    def hangs_up(self, inside: str) -> None:
        """The caller does: their own end of the call."""
        self.switch.api(f"uuid_kill {self._far[inside]}")

    def presses(self, inside: str, keys: str, asked: int = 0) -> None:
        """The caller keys them in, once the leg was asked so often."""
        if asked:
            self.until(lambda: self.switch.asked(inside) >= asked, 15, "to be asked")
            gevent.sleep(0.5)
        self.switch.api(f"uuid_send_dtmf {self._far[inside]} {keys}")

    def clear(self) -> None:
        """Nobody is on duty, nobody calls, and nobody is called back any more: that play is over. An engine
        runs, wherever it ended."""
        if self._process is None:
            self.start()
        self.all_off()
        self.switch.api("hupall NORMAL_CLEARING")
        self.until(lambda: self.switch.api("show channels count").startswith("0 "), 20, "all to have hung up")
        open_ones = [str(row["id"]) for row in self.rows() if row["state"] == "waiting"]
        for start in range(0, len(open_ones), 50):
            self._command("close", *open_ones[start : start + 50])

    def close_recall(self, number: str) -> None:
        self._command("close", str(self.rows(number)[0]["id"]))

    def _command(self, *words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "freeswitch_callback", "--config", str(self.configuration), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        return done.returncode, done.stdout + done.stderr

    def all_off(self) -> None:
        """Nobody is on duty."""
        for numbers in AGENTS.values():
            for number in numbers:
                self.switch.api(f"callcenter_config agent set status {number}@default 'Logged Out'")

    def gives_up(self, number: str, to: str, after: float = 1.2) -> None:
        """Waits in a queue for so long, and hangs up; on record then."""
        inside = self.calls(number, to)
        self.until(lambda: self.switch.joined(inside), 15, f"{number} to wait")
        gevent.sleep(after)
        self.hangs_up(inside)
        self.row(number)

    # --- what is on record --------------------------------------------------------------------------------

    def rows(self, number: str | None = None) -> list[dict[str, Any]]:
        return list(self.ledger.listing(Filter(number=number)))

    def row(self, number: str, within: float = 10.0, **wanted: Any) -> dict[str, Any]:
        """The one row of this number, once it has these values."""

        def there() -> bool:
            rows = self.rows(number)
            return bool(rows) and all(rows[0][name] == value for name, value in wanted.items())

        def seen() -> str:
            return str(
                [
                    {k: row[k] for k in ("reason", "state", "closed_as", "attempts")}
                    for row in self.rows(number)
                ]
            )

        self.until(there, within, f"{number}: {wanted or 'a row'}", seen)
        return self.rows(number)[0]

    def attempts(self, number: str) -> list[dict[str, Any]]:
        return [one for row in self.rows(number)[:1] for one in self.ledger.show(row["id"])["attempts"]]

    def outcome(self, number: str, within: float = 20.0) -> str:
        def ended() -> bool:
            attempts = self.attempts(number)
            return bool(attempts) and attempts[-1]["outcome"] is not None

        self.until(ended, within, f"{number}: an outcome", lambda: str(self.attempts(number))[:300])
        return str(self.attempts(number)[-1]["outcome"])

    def until(
        self, true: Callable[[], object], within: float, what: str, seen: Callable[[], str] = lambda: ""
    ) -> None:
        deadline = time.monotonic() + within
        while not true():
            if time.monotonic() > deadline:
                raise NotInTime(f"not in {within:g} s: {what} {seen()}".strip())
            gevent.sleep(0.05)

    def close(self) -> None:
        with closing(self.ledger):
            self.end()
