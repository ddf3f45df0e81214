"""A small contact centre whose time is moved by hand, with a client connected to it."""

from __future__ import annotations

from urllib.parse import unquote

from freeswitch_callback.simulator import ManualClock, Simulator
from freeswitch_callback.simulator.tables import Agent

EVERYTHING = "event plain ALL CUSTOM callcenter::info callback::missed callback::request"


class Stage:
    """`replies` and `events` (headers decoded, `_body` the inner body) in the order in which they came."""

    def __init__(self, *, agents: int = 1, listens: bool = True, **settings: object) -> None:
        self.clock = ManualClock()
        self.sim = Simulator(clock=self.clock, **settings)  # type: ignore[arg-type]
        self.sim.add_queue("support@default", extension="3000")
        for number in range(1001, 1001 + agents):
            self.sim.add_agent(f"{number}@default")
            self.sim.add_tier("support@default", f"{number}@default", position=number - 1000)
        self.frames: list[str] = []
        self.closed = False
        self.client = self.sim.attach(lambda frame: self.frames.append(frame.decode()), self._close)
        if listens:
            self.send("auth ClueCon")
            self.send(EVERYTHING)
        self.frames.clear()

    def _close(self) -> None:
        self.closed = True

    def send(self, command: str) -> str:
        """Send a command; what was answered within no time."""
        before = len(self.replies)
        self.client.receive(command.encode() + b"\n\n")
        self.clock.advance(0)
        return "".join(self.replies[before:])

    def api(self, command: str) -> str:
        return self.send(f"api {command}")

    @property
    def replies(self) -> list[str]:
        """Of each reply its text: Reply-Text, or the body."""
        found = []
        for frame in self.frames:
            head, _, body = frame.partition("\n\n")
            if "text/event" not in head:
                reply = [
                    line.removeprefix("Reply-Text: ") for line in head.split("\n") if "Reply-Text" in line
                ]
                found.append("".join(reply) + body)
        return found

    @property
    def events(self) -> list[dict[str, str]]:
        found = []
        for frame in self.frames:
            head, _, text = frame.partition("\n\n")
            if "text/event-plain" in head:
                headers, _, body = text.partition("\n\n")
                event = {
                    line.partition(": ")[0]: unquote(line.partition(": ")[2]) for line in headers.split("\n")
                }
                found.append(event | {"_body": body})
        return found

    def named(self, name: str) -> list[dict[str, str]]:
        """The events of a name, or of a CC-Action."""
        return [event for event in self.events if name in (event["Event-Name"], event.get("CC-Action"))]

    def jobs(self) -> list[str]:
        """How the background jobs ended."""
        return [event["_body"] for event in self.named("BACKGROUND_JOB")]

    @property
    def agent(self) -> Agent:
        return self.sim.agent("1001@default")
