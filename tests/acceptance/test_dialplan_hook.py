"""The files of `dialplan/`, played: who met busy, who asked to be called back, and how a recall is
connected."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.alarms import Name
from freeswitch_callback.simulator import Answers, Call, Refuses, Silent, Simulator
from tests.acceptance.conftest import CLIENT, SUPPORT, House

FILES = Path(__file__).parents[2] / "dialplan"
AGENT = "1001@default"
OTHER = "+12025550299"
HOOKED = "7001"


@pytest.fixture
def sim(sim: Simulator) -> Simulator:
    sim.install(FILES / "callback_missed.xml", FILES / "callback_request.xml")
    sim.phones.install("desk7001", ("phone", "desk7001"), Refuses("USER_BUSY"))
    sim.add_extension(
        HOOKED,
        ("set", "hangup_after_bridge=true"),
        ("set", "continue_on_fail=true"),
        ("set", "callback_operator=1007"),
        ("set", f"callback_queue={SUPPORT}"),
        ("bridge", "sofia/internal/desk7001@127.0.0.1:5090"),
        ("execute_extension", "callback_missed XML default"),
        ("sleep", "200"),
        ("bridge", "sofia/internal/desk7002@127.0.0.1:5090"),
        ("hangup", "NORMAL_CLEARING"),
    )
    sim.phones.install("desk7002", ("phone", "desk7002"), Refuses("USER_BUSY"))
    sim.add_queue(
        SUPPORT, extension="3000", exit_keys="1", then=(("transfer", "callback_after_queue XML default"),)
    )
    sim.add_extension(
        "3600", ("set", f"callback_queue={SUPPORT}"), ("transfer", "callback_request XML default")
    )
    return sim


@pytest.fixture
def house(house: House) -> House:
    house.poll = 0.1
    house.without_a_word = 0.3
    return house


def records(sim: Simulator, of: str = "callback_missed") -> list[str]:
    return [key for key in sim.store.run("db", f"list/{of}").split(",") if key]


def over(sim: Simulator, call: Call) -> None:
    assert sim.wait_for(lambda: call.ended.is_set() and call.uuid not in sim.switch.channels)


def asks(house: House, number: str, digits: str, to: str = "3600") -> Call:
    """Somebody asks to be called back, and keys the digits in, each when it is waited for."""
    call = house.sim.call(number, to=to, hangs_up_after_talk=None)
    if to == "3000":
        house.until(lambda: house.waits(call))
        call.press("1")
    for digit in digits:
        house.until(lambda: waits_for_a_key(house.sim, call))
        call.press(digit)
    over(house.sim, call)
    return call


def waits_for_a_key(sim: Simulator, call: Call) -> bool:
    leg = sim.switch.channels.get(call.uuid)
    return leg is not None and "Digits" in getattr(leg.on_key, "__qualname__", "")


class TestMissed:
    def test_who_met_busy_is_on_record_by_the_event_and_the_record_is_struck(self, house, sim):
        house.engine()
        call = sim.call(CLIENT, to=HOOKED)
        row = house.row(call_uuid=call.uuid)
        house.until(lambda: house.row()["hangup_cause"])
        assert (row["phone"], row["reason"], row["operator"], row["queue"]) == (
            CLIENT,
            "busy",
            "1007",
            SUPPORT,
        )
        house.until(lambda: not records(sim))
        assert len(house.rows()) == 1

    def test_who_met_busy_while_no_engine_listened_is_called_back_once_by_the_cdr(self, house, sim, tmp_path):
        call = sim.call(CLIENT, to=HOOKED)
        over(sim, call)
        assert records(sim) == [call.uuid]
        cdr(
            tmp_path,
            call.uuid,
            CLIENT,
            callback_hook="missed",
            callback_queue=SUPPORT,
            callback_operator="1007",
        )
        house.cdr_folders = {"fs1": (str(tmp_path),)}
        house.without_a_word = 30.0
        house.engine()
        house.free()
        house.until(lambda: [row["closed_as"] for row in house.rows()] == ["recalled"], 15)
        house.until(lambda: not records(sim))
        assert [call.number for call in sim.dialled] == [CLIENT]
        assert [(row["phone"], row["operator"]) for row in house.rows()] == [(CLIENT, "1007")]

    def test_one_of_whom_nothing_else_is_told_is_a_row_without_a_number_and_an_alarm(self, house, sim):
        call = sim.call(CLIENT, to=HOOKED)
        over(sim, call)
        engine = house.engine()
        row = house.row(call_uuid=call.uuid)
        assert (row["phone"], row["number"], row["closed_as"]) == ("", None, "blocked")
        house.until(lambda: not records(sim))
        [alarm] = engine.alarms.active()
        assert (alarm.name, alarm.where) == (Name.MISSED_WITHOUT_NUMBER, "fs1")

    def test_its_cdr_completes_it_later_and_the_client_is_called_once(self, house, sim, tmp_path):
        call = sim.call(CLIENT, to=HOOKED)
        over(sim, call)
        first = house.engine()
        house.row(call_uuid=call.uuid)
        house.until(lambda: not records(sim))
        house.stop(first)
        cdr(tmp_path, call.uuid, CLIENT, callback_hook="missed", callback_queue=SUPPORT)
        house.cdr_folders = {"fs1": (str(tmp_path),)}
        house.engine()
        house.free()
        house.until(lambda: [row["closed_as"] for row in house.rows()] == ["recalled"], 15)
        assert [row["phone"] for row in house.rows()] == [CLIENT]
        assert [call.number for call in sim.dialled] == [CLIENT]

    def test_two_engines_on_one_node_put_it_on_record_once(self, house, sim):
        over(sim, sim.call(CLIENT, to=HOOKED))
        house.engine()
        house.engine()
        house.row()
        house.until(lambda: not records(sim))
        second = sim.call(OTHER, to=HOOKED)
        house.row(call_uuid=second.uuid)
        house.until(lambda: not records(sim))
        assert sorted(row["phone"] for row in house.rows()) == ["", OTHER]

    def test_a_call_that_is_up_waits_for_its_end(self, house, sim):
        """The hook's event was sent while nobody listened, the rest of the call is heard."""
        sim.phones.install("desk7002", ("phone", "desk7002"), Silent())
        call = sim.call(CLIENT, to=HOOKED)
        assert sim.wait_for(lambda: records(sim))
        house.engine()
        sim_time = sim.clock.now() + 0.8  # longer than a record waits for the CDR of a call that is over
        house.until(lambda: sim.clock.now() > sim_time)
        assert house.rows() == []
        assert records(sim) == [call.uuid]
        call.hang_up()
        row = house.row(call_uuid=call.uuid)
        assert (row["phone"], row["queue"]) == (CLIENT, SUPPORT)
        house.until(lambda: not records(sim))

    def test_who_was_answered_further_on_is_no_missed_call(self, house, sim):
        """Their row is taken back, and the record that is left tells of nobody."""
        sim.phones.install("desk7002", ("phone", "desk7002"), Answers(after=0.02))
        house.poll, house.without_a_word = 1.5, 0.0
        house.engine()
        call = sim.call(CLIENT, to=HOOKED, hangs_up_after_talk=0.2)
        over(sim, call)
        assert records(sim) == [call.uuid]
        house.until(lambda: not records(sim))
        assert house.rows() == []

    def test_an_answered_call_that_comes_to_the_hook_is_not_reported(self, house, sim):
        sim.phones.install("desk7001", ("phone", "desk7001"), Answers(after=0.02, talks=0.2))
        steps = [step for step in sim.house.extensions[HOOKED] if step != ("set", "hangup_after_bridge=true")]
        sim.add_extension("7009", *steps[:-3], ("hangup", "NORMAL_CLEARING"))
        house.engine()
        call = sim.call(CLIENT, to="7009", hangs_up_after_talk=None)
        over(sim, call)
        assert sim.talks
        assert records(sim) == []
        assert house.rows() == []

    def test_more_records_than_one_list_holds_are_all_collected(self, house, sim):
        uuids = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(250)]
        for uuid in uuids:
            sim.store.run("db", f"insert/callback_missed/{uuid}/member:")
            house.missed(call_uuid=uuid, phone=f"+1202555{int(uuid[:8]):04d}")
        assert len(sim.store.run("db", "list/callback_missed")) == 4095
        house.without_a_word = 0.0  # the half of a key that the list ends with is none
        house.engine()
        house.until(lambda: not records(sim))
        assert len(house.rows()) == 250

    def test_a_record_whose_key_no_command_can_name_is_left_where_it_is(self, house, sim):
        sim.store.run("db", "insert/callback_missed/x y\nz/member:")
        over(sim, sim.call(CLIENT, to=HOOKED))
        house.engine()
        house.row()
        house.until(lambda: records(sim) == ["x y\nz"])

    def test_it_is_not_struck_before_it_is_on_disk(self, house, sim, monkeypatch):
        call = sim.call(CLIENT, to=HOOKED)
        over(sim, call)
        engine = house.engine()
        monkeypatch.setattr(type(engine.sites[0].recorder), "behind", property(lambda self: 1))
        until = sim.clock.now() + 0.8
        house.until(lambda: sim.clock.now() > until)
        assert records(sim) == [call.uuid]
        monkeypatch.undo()
        house.row(call_uuid=call.uuid)
        house.until(lambda: not records(sim))


class TestRequest:
    def test_who_pressed_the_key_is_called_back_and_keeps_the_place(self, house, sim):
        """By arrival: they called before the one who waits now, and are called before that one is served."""
        engine = house.engine(fairness=Fairness.BY_ARRIVAL)
        sim.callcenter.pace = 60.0  # the queue looks at its agents later than the engine hears of them
        call = asks(house, CLIENT, "1", to="3000")
        row = house.row(call_uuid=call.uuid, reason="requested", hangup_cause="NORMAL_CLEARING")
        assert (row["phone"], row["queue"]) == (CLIENT, SUPPORT)
        house.until(lambda: not records(sim, "callback_request"))
        waits = sim.call(OTHER, to="3000", hangs_up_after_talk=0.1)
        assert sim.wait_for(lambda: house.waits(waits))
        house.free()
        house.row(call_uuid=call.uuid, closed_as="recalled")
        sim.callcenter.pace = 0.05
        sim.callcenter._look()
        over(sim, waits)
        assert [talk.number for talk in sim.talks] == [CLIENT, OTHER]
        assert engine.alarms.active() == []

    def test_another_number_is_called_and_the_callers_own_is_kept_with_the_call(self, house, sim):
        house.engine()
        sim.client(OTHER, Answers(after=0.02, talks=0.1))
        call = asks(house, CLIENT, "2" + OTHER[2:] + "#")
        row = house.row(call_uuid=call.uuid, reason="requested")
        assert (row["phone"], row["number"], row["queue"]) == (OTHER[2:], OTHER, SUPPORT)
        assert house.ledger.show(row["id"])["missed"]["extra"] == {"called_from": CLIENT}
        house.free()
        house.until(lambda: [r["closed_as"] for r in house.rows()] == ["recalled"])
        assert [call.number for call in sim.dialled] == [OTHER]

    @pytest.mark.parametrize(
        ("keyed", "why"),
        [("8765551234", "country"), ("9005551234", "country"), ("0110", "number"), ("2025559999", "number")],
        ids=["Jamaica", "premium rate", "nonsense", "our own"],
    )
    def test_another_number_that_a_gate_refuses_is_on_record_and_never_called(self, house, sim, keyed, why):
        house.gates = GateRules(min_wait=0.0, numbers=NumberRules(own=frozenset({"+12025559999"})))
        house.engine()
        house.free()
        call = asks(house, CLIENT, f"2{keyed}#")
        row = house.row(call_uuid=call.uuid, closed_as="blocked")
        assert row["phone"] == keyed
        assert house.ledger.show(row["id"])["recall"]["note"].startswith(why)
        assert sim.dialled == []

    def test_a_caller_without_a_number_is_asked_for_one_at_once(self, house, sim):
        house.engine()
        call = asks(house, "anonymous", OTHER[2:] + "#")
        assert house.row(call_uuid=call.uuid, reason="requested")["number"] == OTHER

    def test_signs_that_are_no_digits_are_asked_for_again(self, house, sim):
        house.engine()
        call = asks(house, "anonymous", "12*45#" + OTHER[2:] + "#")
        assert house.row(call_uuid=call.uuid, reason="requested")["number"] == OTHER

    def test_who_asked_while_no_engine_listened_is_called_back_by_the_queues_list(self, house, sim):
        house.stop(house.engine())
        call = asks(house, CLIENT, "1", to="3000")
        assert records(sim, "callback_request") == [call.uuid]
        engine = house.engine()
        house.free()
        house.until(lambda: [r["closed_as"] for r in house.rows()] == ["recalled"], 15)
        house.until(lambda: not records(sim, "callback_request"))
        assert [row["phone"] for row in house.rows()] == [CLIENT]
        assert [call.number for call in sim.dialled] == [CLIENT]
        assert engine.alarms.active() == []

    def test_who_waited_in_vain_without_pressing_is_hung_up_as_before(self, house, sim):
        house.engine()
        sim.callcenter.queues[SUPPORT].max_wait_time = 1
        call = sim.call(CLIENT, to="3000")
        assert house.row(call_uuid=call.uuid, hangup_cause="NORMAL_CLEARING")["reason"] == "timeout"
        assert records(sim, "callback_request") == []


def cdr(folder: Path, uuid: str, number: str, **variables: str) -> None:
    """What mod_json_cdr wrote for a direct call that met busy."""
    path = Path(__file__).parents[1] / "data" / "json_cdr" / "direct_busy.cdr.json"
    record = json.loads(path.read_text("utf-8"))
    was = record["variables"]["uuid"]
    profile = record["callflow"][-1]["caller_profile"]
    text = json.dumps(record).replace(was, uuid).replace(profile["caller_id_number"], number)
    record = json.loads(text)
    record["variables"] |= variables
    folder.joinpath(f"{uuid}.cdr.json").write_text(json.dumps(record))
    moved_to_now(folder / f"{uuid}.cdr.json")


def moved_to_now(path: Path) -> None:
    """A call of a moment ago, and its file as old: a CDR of last year would have expired, and one that may
    still be written to would wait for the next look."""
    ended = int(time.time()) - 5
    record = json.loads(path.read_text())
    moved = ended - int(record["variables"]["end_epoch"])
    for name, value in record["variables"].items():
        if name.endswith("_epoch") and str(value) != "0":
            record["variables"][name] = str(int(value) + moved)
        elif name.endswith("_uepoch") and str(value) != "0":
            record["variables"][name] = str(int(value) + moved * 1_000_000)
    for flow in record["callflow"]:
        for name, value in flow["times"].items():
            if str(value) != "0":
                flow["times"][name] = str(int(value) + moved * 1_000_000)
    path.write_text(json.dumps(record))
    os.utime(path, (ended, ended))


class TestConnect:
    """`recall.connect`: the recall goes through the dialplan on its way."""

    @pytest.fixture
    def connecting(self, house: House, sim: Simulator, tmp_path: Path) -> House:
        self.installed(sim, tmp_path)
        return house

    def installed(self, sim: Simulator, tmp_path: Path, **settings: str) -> None:
        text = (FILES / "callback_connect.xml").read_text("utf-8")
        for name, value in settings.items():
            before, found, after = text.partition(f'data="{name}=')
            assert found
            text = before + found + value + after[after.index('"') :]
        path = tmp_path / "callback_connect.xml"
        path.write_text(text)
        sim.install(path)

    @pytest.mark.parametrize("mode", list(Mode))
    def test_in_each_mode_they_are_connected_once_and_the_marks_are_cleared(self, connecting, sim, mode):
        connecting.engine(mode=mode, connect="callback_connect")
        connecting.gave_up()
        connecting.free()
        connecting.row(closed_as="recalled")
        assert [call.number for call in sim.dialled] == [CLIENT]
        assert "execute_extension:callback_connect XML default" in sim.dialled[0].command_text
        assert sim.executed == []
        connecting.until(lambda: not records(sim, "callback"))
        connecting.until(lambda: connecting.state() == "Waiting")

    @pytest.mark.parametrize("mode", [Mode.AGENT_FIRST, Mode.CLIENT_FIRST])
    def test_a_machine_presses_nothing_and_is_not_connected(self, house, sim, tmp_path, mode):
        self.installed(sim, tmp_path, callback_press_one="true", callback_sound_press="silence_stream://100")
        faster(sim)
        house.engine(mode=mode, connect="callback_connect", ring_timeout=1.0)
        house.gave_up()
        house.free()
        house.until(lambda: house.attempts()[:1] and house.attempts()[0]["outcome"])
        assert house.attempts()[0]["outcome"] in ("no_answer", "client_hung_up")
        assert house.attempts()[0]["connected_at"] is None
        assert sim.talks == []
        assert house.row(attempts=1)["state"] == "waiting"

    @pytest.mark.parametrize("mode", [Mode.AGENT_FIRST, Mode.CLIENT_FIRST])
    def test_who_presses_one_is_connected(self, house, sim, tmp_path, mode):
        self.installed(sim, tmp_path, callback_press_one="true")
        house.engine(mode=mode, connect="callback_connect")
        house.gave_up()
        house.free()
        assert sim.wait_for(lambda: sim.dialled)
        leg = sim.switch.channels[sim.dialled[0].call_uuid]
        asked = leg.on_key
        assert sim.wait_for(lambda: leg.answered and leg.on_key is not asked)
        leg.on_key("1")
        house.row(closed_as="recalled")

    def test_an_engine_that_was_away_learns_from_the_mailbox_how_long_they_talked(self, house, sim, tmp_path):
        """They talked too short to count, and the client is called again: the time until somebody looked is
        not taken for talk."""
        self.installed(sim, tmp_path)
        sim.client(CLIENT, Answers(after=0.02, talks=None))
        later = {"busy": 900.0, "no_answer": 900.0, "failed": 900.0}
        house.rules = replace(house.rules, retry=RetryRules(min_talk=3.0, retry=later))
        first = house.engine(connect="callback_connect")
        house.gave_up()
        house.free()
        house.row(state="connected")
        house.stop(first)
        [held] = house.ledger.held()
        sim.api(f"uuid_kill {held.claim.call_uuid}")
        ended = sim.clock.now()
        assert sim.wait_for(
            lambda: "." in sim.store.run("db", f"select/callback/{held.claim.call_uuid}.ended")
        )
        house.until(lambda: sim.clock.now() > ended + 3.5)
        house.engine(connect="callback_connect")
        row = house.row(state="waiting", attempts=1)
        assert "min_talk is 3 s" in house.ledger.show(row["id"])["recall"]["note"]

    def test_without_the_extension_the_recall_goes_on_as_before(self, house, sim):
        house.engine(connect="callback_connect")
        house.gave_up()
        house.free()
        house.row(closed_as="recalled")


def faster(sim: Simulator) -> None:
    """Nobody waits for ten seconds of silence here."""
    for at, extension in enumerate(sim.house.dialplan):
        sim.house.dialplan[at] = type(extension)(
            extension.name,
            extension.goes_on,
            tuple(
                type(c)(
                    c.field,
                    c.expression,
                    c.leave,
                    tuple(
                        type(a)(a.application, type(a.data)(a.data.replace(" 5000 ", " 100 ")), a.inline)
                        for a in c.actions
                    ),
                    c.otherwise,
                )
                for c in extension.conditions
            ),
        )
