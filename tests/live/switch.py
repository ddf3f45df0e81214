"""A real FreeSWITCH with our configuration, in a folder of its own, on free ports of the loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import wave
from pathlib import Path
from typing import NamedTuple

import gevent

from freeswitch_callback.errors import FreeSwitchError
from freeswitch_callback.esl.client import AnyEvent
from freeswitch_callback.esl.node import Node

CONF = Path(__file__).parent / "conf"
HOOK = Path(__file__).parents[2] / "dialplan"
PASSWORD = "live"
AGENTS = {
    "support": range(1001, 1020),
    "client": range(1021, 1050),
    "through": range(1051, 1070),
    "asking": range(1071, 1080),
    "quiet": range(1081, 1090),
    "told": range(1091, 1095),
    "paged": range(1095, 1100),
}
"""By queue, the agents' numbers."""

_FOLDERS = ("log", "db", "run", "tmp", "storage", "rec", "cache", "sounds", "certs", "cdr")
_SOUND = 20000
"""The first port for sound: all lie below those that the kernel gives to whoever asks for any."""
_PORTS = 4000
_UP_WITHIN = 60.0


class Told(NamedTuple):
    """An event, as far as the suite looks at it. `at`: FreeSWITCH's own stamp, seconds since 1970."""

    at: float
    name: str
    uuid: str
    direction: str
    context: str
    number: str
    destination: str
    ours: bool
    agent: str
    status: str
    application: str
    data: str


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Switch:
    """`binary`: FreeSWITCH's program. `told`: every event of interest since it was started first.

    `number`: of those that run at the same time, from 0; each has its own ports for sound.
    """

    def __init__(self, binary: Path, folder: Path, number: int = 0) -> None:
        self._binary = binary
        self.folder = folder
        self._sound = _SOUND + number * _PORTS
        self.port, self.sip = free_port(), free_port(socket.SOCK_DGRAM)
        self._world = free_port(socket.SOCK_DGRAM)
        self.told: list[Told] = []
        self._write_conf()
        self.node = Node(
            "suite",
            "127.0.0.1",
            self.port,
            PASSWORD,
            on_event=self._event,
            subscribe=("CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_HANGUP", "CHANNEL_EXECUTE"),
            subclasses=("callcenter::info",),
            maxsize=100_000,
        )

    @property
    def cdrs(self) -> Path:
        return self.folder / "cdr"

    @property
    def recordings(self) -> Path:
        return self.folder / "rec"

    @property
    def announcement(self) -> Path:
        """Half a second of a tone."""
        return self.folder / "sounds" / "announcement.wav"

    def _write_conf(self) -> None:
        for name in _FOLDERS:
            (self.folder / name).mkdir()
        with wave.open(str(self.announcement), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes((b"\x00\x40" * 10 + b"\x00\xc0" * 10) * 200)
        conf = self.folder / "conf"
        shutil.copytree(CONF, conf)
        (conf / "hook").mkdir()
        for path in HOOK.glob("*.xml"):
            text = path.read_text("utf-8")
            for sound in (
                "accept_reject",
                "please_enter_the_phone_number",
                "that_was_an_invalid_entry",
                "thank_you",
            ):
                text = text.replace(f"ivr/ivr-{sound}.wav", "silence_stream://100")
            for name, value in {
                "callback_press_one=false": "callback_press_one=true",
                "callback_record=false": "callback_record=true",
                "callback_announcement=": f"callback_announcement={self.announcement}",
            }.items():
                text = text.replace(f'data="{name}"', f'data="{value}"')
            (conf / "hook" / path.name).write_text(text)
        ports = {
            "esl_port": self.port, "esl_password": PASSWORD, "sip_port": self.sip, "world_port": self._world,
            "rtp_start": self._sound, "rtp_end": self._sound + _PORTS - 2, "cdr_dir": self.cdrs,
        }  # fmt: skip
        lines = [f'<X-PRE-PROCESS cmd="set" data="{name}={value}"/>' for name, value in ports.items()]
        (conf / "vars.xml").write_text("<include>\n" + "\n".join(lines) + "\n</include>\n")
        agents = [
            f'<agent name="{n}@default" type="callback" status="Logged Out" max-no-answer="99"'
            f' contact="[leg_timeout=5]sofia/gateway/world/{n}" wrap-up-time="0" reject-delay-time="1"'
            f' busy-delay-time="1" no-answer-delay-time="1"/>'
            for numbers in AGENTS.values()
            for n in numbers
        ]
        (conf / "agents.xml").write_text("<include>\n" + "\n".join(agents) + "\n</include>\n")
        tiers = [
            f'<tier agent="{n}@default" queue="{queue}@default" level="1" position="1"/>'
            for queue, numbers in AGENTS.items()
            for n in numbers
        ]
        (conf / "tiers.xml").write_text("<include>\n" + "\n".join(tiers) + "\n</include>\n")

    # --- its life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Until it answers and its queues are loaded; raises RuntimeError if it does not."""
        words = [str(self._binary), "-nonat", "-np", "-nc", "-conf", str(self.folder / "conf")]
        for name in ("log", "db", "run", "storage", "cache", "sounds", "certs"):
            words += [f"-{name}", str(self.folder / name)]
        words += ["-temp", str(self.folder / "tmp"), "-recordings", str(self.folder / "rec")]
        words = ["/bin/sh", "-c", 'ulimit -c 0; ulimit -s 240; exec "$@"', "sh", *words]
        out = (self.folder / "log" / "start.out").open("ab")
        subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, timeout=_UP_WITHIN
        )
        self.node.start()
        deadline = time.monotonic() + _UP_WITHIN
        while time.monotonic() < deadline:
            try:
                if "asking@default" in self.api("callcenter_config queue list"):
                    return
            except FreeSwitchError:
                pass
            gevent.sleep(0.2)
        raise RuntimeError(f"FreeSWITCH is not up after {_UP_WITHIN:g} s; see {self.folder / 'log'}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """And wait until it has gone."""
        path = self.folder / "run" / "freeswitch.pid"
        if not path.exists():
            return
        pid = int(path.read_text().strip("\x00 \n"))
        try:
            os.kill(pid, how)
            for _ in range(150):
                os.kill(pid, 0)
                gevent.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        path.unlink(missing_ok=True)

    # --- what it is told, and tells -----------------------------------------------------------------------

    def api(self, text: str) -> str:
        return self.node.api(text).strip()

    def _event(self, event: AnyEvent) -> None:
        get = event.get
        self.told.append(
            Told(
                event.timestamp, event.name, get("Unique-ID") or "", get("Call-Direction") or "",
                get("Caller-Context") or "", get("Caller-Caller-ID-Number") or "",
                get("Caller-Destination-Number") or "", get("variable_callback_entry") is not None,
                get("CC-Agent") or "", get("CC-Agent-Status") or get("CC-Action") or "",
                get("Application") or "", get("Application-Data") or "",
            )
        )  # fmt: skip

    def leg(self, number: str) -> str | None:
        """The caller's own leg inside, the newest of that number."""
        found = [
            one.uuid
            for one in self.told
            if one.name == "CHANNEL_CREATE" and one.direction == "inbound" and one.context == "default"
            and one.number == number
        ]  # fmt: skip
        return found[-1] if found else None

    def joined(self, uuid: str) -> bool:
        """Whether this leg has come to a queue."""
        return any(one.uuid == uuid and one.status == "member-queue-start" for one in self.told)

    def ran(self, uuid: str, application: str) -> list[str]:
        """With what this application ran on that leg, in this order."""
        return [one.data for one in self.told if one.uuid == uuid and one.application == application]

    def asked(self, uuid: str) -> int:
        """How often this leg was asked for keys."""
        return len(self.ran(uuid, "play_and_get_digits"))

    def dialled(self, number: str) -> tuple[int, int]:
        """How many legs went out to a client, and how many of them were up at once at most."""
        up = most = legs = 0
        for one in self.told:
            if one.direction == "outbound" and one.ours and one.destination == number:
                if one.name == "CHANNEL_CREATE":
                    legs, up = legs + 1, up + 1
                    most = max(most, up)
                elif one.name == "CHANNEL_HANGUP":
                    up -= 1
        return legs, most
