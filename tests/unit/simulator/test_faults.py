"""Over a real socket: how FreeSWITCH goes away, falls silent, and comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from freeswitch_callback.simulator import Answers, Simulator
from tests.unit.simulator.stage import EVERYTHING, Stage

SUBSCRIBE = b"event plain CHANNEL_CREATE CHANNEL_HANGUP BACKGROUND_JOB CUSTOM callcenter::info\n\n"


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.received = b""

    def send(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\n\n")

    def read_until(self, text: str) -> str:
        """Read on until something has come; what came before it and with it."""
        wanted = text.encode()
        while wanted not in self.received:
            data = self.socket.recv(65536)
            assert data, f"end of file before {text!r}: {self.received[-200:]!r}"
            self.received += data
        upto = self.received.index(wanted) + len(wanted)
        found, self.received = self.received[:upto], self.received[upto:]
        return found.decode()

    def read_to_the_end(self) -> bytes:
        while data := self.socket.recv(65536):
            self.received += data
        return self.received

    def log_in(self) -> Client:
        self.read_until("auth/request")
        self.send("auth ClueCon")
        self.socket.sendall(SUBSCRIBE)
        self.read_until("enabled plain\n\n")
        return self


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    simulator.add_queue("support@default", extension="3000")
    simulator.add_agent("1001@default", behaviour=Answers(after=0.0))
    simulator.add_tier("support@default", "1001@default")
    simulator.start()
    yield simulator
    simulator.stop()


def test_a_whole_recall_over_the_socket(sim: Simulator) -> None:
    sim.client("+12025550200", Answers(after=0.0, talks=0.0))
    client = Client(sim.port).log_in()
    client.send(
        "bgapi originate {ignore_early_media=true}sofia/internal/1001@127.0.0.1:5090 "
        "&bridge(sofia/gateway/main/+12025550200)"
    )
    client.read_until("+OK Job-UUID: ")
    client.read_until("Event-Name: BACKGROUND_JOB")
    assert sim.wait_for(lambda: sim.talks)
    assert sim.talks[0].number == "+12025550200"


def test_waiting_for_what_does_not_come_ends_in_time(sim: Simulator) -> None:
    assert not sim.wait_for(lambda: sim.talks, timeout=0.01)


def test_a_cut_line_is_an_end_of_file_and_nothing_else(sim: Simulator) -> None:
    client = Client(sim.port).log_in()
    sim.cut_connections()
    assert client.read_to_the_end() == b""
    assert Client(sim.port).log_in()


def test_a_shutdown_is_an_end_of_file_and_nothing_else(sim: Simulator) -> None:
    client = Client(sim.port).log_in()
    sim.stop()
    assert client.read_to_the_end() == b""


def test_after_a_crash_there_are_no_calls_and_another_core_uuid(sim: Simulator) -> None:
    client = Client(sim.port).log_in()
    core = sim.api("global_getvar core_uuid")
    sim.api("db insert/callback/kept/1")
    sim.api("hash insert/callback/lost/1")
    call = sim.call("+12025550100", hangs_up_after_talk=60.0)
    assert sim.wait_for(lambda: sim.agent("1001@default").state == "In a queue call")
    sim.crash()
    assert b"CHANNEL_HANGUP" not in client.read_to_the_end()
    with pytest.raises(ConnectionRefusedError):
        Client(sim.port)
    sim.restart()
    assert Client(sim.port).log_in()
    assert call.ended.is_set()
    assert sim.agent("1001@default").state == "Waiting"
    assert sim.api("show channels as json") == '{"row_count":0}'
    assert sim.api("global_getvar core_uuid") != core
    assert sim.api("db select/callback/kept") == "1"
    assert sim.api("hash select/callback/lost") == ""
    columns, member, _ = sim.api("callcenter_config queue list members support@default").split("\n", 2)
    row = dict(zip(columns.split("|"), member.split("|"), strict=True))
    assert (row["state"], row["session_uuid"], row["abandoned_epoch"]) == ("Abandoned", "", "0")
    assert row["bridge_epoch"] != "0", "was being served when it crashed"


def test_who_talked_in_the_crash_is_offered_the_next_caller() -> None:
    stage = Stage()
    stage.sim.call("+12025550100", hangs_up_after_talk=None)
    stage.clock.advance(10)
    assert stage.agent.state == "In a queue call"
    stage.sim.crash()
    stage.sim.call("+12025550101", hangs_up_after_talk=None)
    stage.clock.advance(10)
    assert [call.number for call in stage.sim.calls if call.talking] == ["+12025550101"]


def test_what_was_to_happen_before_a_crash_does_not_happen_after_it() -> None:
    stage = Stage()
    stage.client.receive(b"api msleep 1000\n\nbgapi originate sofia/gateway/main/+12025550200 &park()\n\n")
    stage.sim.call("+12025550100", gives_up_after=2.0)
    stage.clock.advance(0.5)
    stage.sim.crash()
    after: list[bytes] = []
    survivor = stage.sim.attach(after.append)
    survivor.receive(f"auth ClueCon\n\n{EVERYTHING}\n\n".encode())
    stage.clock.advance(10)
    assert stage.sim.dialled == []
    assert not [frame for frame in after if b"CHANNEL" in frame or b"callcenter" in frame]


def test_refused_connections_leave_those_who_are_connected(sim: Simulator) -> None:
    client = Client(sim.port).log_in()
    sim.refuse_connections(True)
    with pytest.raises(ConnectionRefusedError):
        Client(sim.port)
    client.send("api echo still here")
    client.read_until("still here")
    sim.refuse_connections(False)
    assert Client(sim.port).log_in()


def test_a_mute_freeswitch_does_what_it_is_told_and_says_nothing(sim: Simulator) -> None:
    client = Client(sim.port).log_in()
    sim.mute()
    client.send("api callcenter_config agent set state_if_waiting 1001@default Reserved")
    assert sim.wait_for(lambda: sim.agent("1001@default").state == "Reserved")
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.socket.recv(1)
    client.socket.settimeout(5)
    sim.mute(False)
    client.read_until("+OK")


def test_a_client_that_does_not_read_loses_events_and_is_thrown_out(sim: Simulator) -> None:
    sim.server.backlog = 10
    client = Client(sim.port).log_in()
    sim.mute()
    for _ in range(600):
        sim.set_status("1001@default", "On Break")
    sim.mute(False)
    received = client.read_to_the_end()
    assert received.count(b"agent-status-change") < 600
    assert received.rstrip().endswith(b"http://www.cluecon.com/")


def test_the_server_outlives_garbage(sim: Simulator) -> None:
    client = Client(sim.port).log_in()
    client.socket.sendall(b"\xff\xfe\n\n: \n\n\r\n\r\n")
    client.send("api echo alive")
    client.read_until("alive")
