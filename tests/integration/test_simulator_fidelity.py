"""The simulator plays the stories of the recordings and sends what FreeSWITCH sent.

Every command of a recording is sent at its time; the callers and the agents' doings are written out below.
Then, leg by leg, the events must be the same ones in the same order, with the same of those headers that
anybody reads: present where FreeSWITCH has them, absent where it has not, and with the same values (uuids
by the part that their leg plays, times only as set or not set). Between legs FreeSWITCH keeps no order, so
none is compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from freeswitch_callback.core.capture import Capture, CaptureRules, Direct
from freeswitch_callback.core.facts import Missed
from freeswitch_callback.esl.frames import Event as EslEvent
from freeswitch_callback.esl.frames import Framer
from freeswitch_callback.simulator import Answers, ManualClock, Simulator
from freeswitch_callback.simulator.stories import usual_client

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EVENTS = (
    "event plain CHANNEL_CREATE CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_HANGUP "
    "CHANNEL_HANGUP_COMPLETE BACKGROUND_JOB HEARTBEAT "
    "CUSTOM callcenter::info callback::missed callback::request"
)


def words(text: str) -> list[str]:
    return text.split()


# What is read of an event about a leg. Those of the world outside are not ours: only what tells them apart.
OF_ANY_LEG = words("""
    Event-Name Event-Subclass Unique-ID Call-Direction Caller-Direction Caller-Context
    Caller-Destination-Number Caller-Unique-ID Hangup-Cause Answer-State Channel-Name Channel-State
    Channel-State-Number variable_direction variable_uuid variable_hangup_cause
""")
OF_OUR_LEGS = words("""
    Channel-Call-UUID Channel-HIT-Dialplan Caller-Username Caller-Dialplan Caller-Caller-ID-Name
    Caller-Caller-ID-Number Caller-Orig-Caller-ID-Name Caller-Orig-Caller-ID-Number Caller-ANI
    Caller-RDNIS Caller-Source Caller-Channel-Created-Time Caller-Channel-Answered-Time
    Caller-Channel-Hangup-Time Caller-Channel-Bridged-Time Other-Type Other-Leg-Unique-ID
    Other-Leg-Direction Other-Leg-Destination-Number Other-Leg-Channel-Name Bridge-A-Unique-ID
    Bridge-B-Unique-ID CC-Queue CC-Action CC-Agent CC-Agent-System CC-Agent-UUID CC-Agent-Bridged
    CC-Agent-Called-Time CC-Agent-Answered-Time CC-Bridge-Terminated-Time CC-Cause CC-Cancel-Reason
    CC-Hangup-Cause CC-Member-UUID CC-Member-Session-UUID CC-Member-CID-Name CC-Member-CID-Number
    CC-Member-Joined-Time CC-Member-Leaving-Time Callback-Operator variable_channel_name
    variable_sip_req_user variable_sip_from_user variable_sip_to_user variable_sip_hangup_disposition
    variable_sip_term_status variable_proto_specific_hangup_cause variable_hangup_cause_q850
    variable_cc_side variable_cc_queue variable_cc_member_uuid variable_cc_member_session_uuid
    variable_cc_agent variable_cc_agent_uuid variable_cc_agent_bridged variable_cc_agent_type
    variable_cc_cause variable_cc_cancel_reason variable_cc_exit_key variable_cc_exit_keys
    variable_cc_base_score variable_cc_queue_joined_epoch variable_cc_queue_answered_epoch
    variable_cc_queue_canceled_epoch variable_cc_queue_terminated_epoch variable_originate_disposition
    variable_DIALSTATUS variable_last_bridge_hangup_cause variable_bridge_hangup_cause
    variable_last_bridge_to variable_last_bridge_role variable_bridge_uuid variable_bridge_channel
    variable_signal_bond variable_originator variable_originating_leg_uuid variable_originate_causes
    variable_originated_legs variable_origination_uuid variable_origination_caller_id_name
    variable_origination_caller_id_number variable_ignore_early_media variable_callback_entry
    variable_sip_h_X-Callback-Id variable_sip_h_X-Missed-Wait variable_sip_h_X-Missed-Reason
    variable_leg_timeout variable_originate_timeout variable_crm_id variable_current_application
    variable_last_app variable_last_arg variable_endpoint_disposition variable_channel_cid_flipped
    variable_start_epoch variable_start_uepoch variable_answer_epoch variable_answer_uepoch
    variable_bridge_epoch variable_bridge_uepoch variable_progress_epoch variable_end_epoch
    variable_end_uepoch
""")
OF_NO_LEG = words("""
    Event-Name Event-Subclass CC-Action CC-Agent CC-Agent-State CC-Agent-Status CC-Agent-Type
    CC-Agent-System CC-Agent-Called-Time CC-Agent-Aborted-Time CC-Agent-No-Answer-Count
    CC-Agent-No-Answer-Status CC-Queue CC-Count CC-Selection CC-Hangup-Cause CC-Member-UUID
    CC-Member-Session-UUID CC-Member-CID-Name CC-Member-CID-Number CC-Member-Joined-Time Job-Command
""")
TIMES = re.compile(r"-Time$|epoch$")
# Where FreeSWITCH's own threads race, its recordings differ from each other: an agent's leg may or may not be
# a call of its own again at its CHANNEL_HANGUP_COMPLETE (`answered`: yes, `overflow_answered`: no).
RACES = {"Channel-Call-UUID", "variable_bridge_hangup_cause"}

Event = dict[str, str]


class Stage:
    """A laboratory like the one of the recordings, with a client connected to it; time is moved by hand."""

    def __init__(self, now: float) -> None:
        self.clock = ManualClock(now)
        self.simulator = sim = Simulator(clock=self.clock, password="lab-secret", hostname="vm")
        sim.add_queue(
            "support@default",
            extension="3000",
            did="+12025551000",
            max_wait_time=40,
            discard_abandoned_after=600,
        )
        sim.add_queue(
            "sales@default",
            "ring-all",
            extension="3100",
            exit_keys="9",
            max_wait_time=12,
            abandoned_resume_allowed=True,
        )
        sim.add_queue(
            "short@default",
            "round-robin",
            extension="3200",
            max_wait_time=3,
            max_wait_time_with_no_agent=2,
            then=(("callcenter", "support@default"),),
        )
        sim.add_extension("3300", ("pre_answer", ""), ("callcenter", "support@default"))
        sim.add_extension(
            "3400",
            ("set", "continue_on_fail=true"),
            ("set", "hangup_after_bridge=true"),
            ("set", "call_timeout=3"),
            ("bridge", "sofia/internal/mute7005@127.0.0.1:5090"),
            ("db", "insert/callback/${uuid}/missed"),
            ("event", "Event-Name=CUSTOM,Event-Subclass=callback::missed,Callback-Operator=7005"),
            ("hangup", "NO_ANSWER"),
        )
        sim.add_extension(
            "3500",
            ("answer", ""),
            ("set", "cc_exit_keys=1"),
            ("callcenter", "support@default"),
            ("event", "Event-Name=CUSTOM,Event-Subclass=callback::request"),
            ("hangup", "NORMAL_CLEARING"),
        )
        for name, phone, limit, most in (
            ("1001", "agent1001", 8, 3),
            ("1002", "agent1002", 8, 3),
            ("1003", "mute1003", 4, 2),
        ):
            sim.add_agent(
                f"{name}@default",
                f"[leg_timeout={limit}]sofia/internal/{phone}@127.0.0.1:5090",
                status="Logged Out",
                wrap_up_time=2,
                max_no_answer=most,
                behaviour=sim.phones.at(phone).behaviour(),
            )
        sim.add_tier("support@default", "1001@default")
        sim.add_tier("sales@default", "1003@default")
        sim.add_tier("support@default", "1002@default", position=2)
        sim.default_client(
            lambda number, random: (
                usual_client(number, random) if number[-4:-2] in ("01", "04", "05") else PICKS_UP
            )
        )
        self.frames: list[str] = []
        self.client = sim.attach(lambda frame: self.frames.append(frame.decode("utf-8", "surrogateescape")))

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        self.clock.after(seconds, action)

    def then(self, seconds: float, action: Callable[[], object]) -> None:
        """As `at`, of the recording's story: it begins when the client has asked for its events."""
        self.at(seconds + 0.01, action)

    def send(self, text: str) -> None:
        self.client.receive(text.encode("utf-8", "surrogateescape"))

    def everybody_logs_out(self) -> None:
        for name in ("1001@default", "1002@default", "1003@default"):
            self.simulator.api(f"callcenter_config agent set status {name} 'Logged Out'")
            self.simulator.api(f"callcenter_config agent set state {name} Waiting")


PICKS_UP = Answers(after=0.4, hangs_up=5.4)


def caller(
    number: str, to: str, leaves: float | None = None, *, starts: float = 0.0, name: str = "Lab Caller"
) -> Story:
    def story(stage: Stage) -> None:
        stage.then(
            starts,
            lambda: stage.simulator.call(
                number, to=to, name=name, gives_up_after=leaves, hangs_up_after_talk=None
            ),
        )

    return story


def on_duty(agent: str, at: float = 0.0) -> Story:
    return lambda stage: stage.then(at, lambda: stage.simulator.set_status(agent, "Available"))


def talker(number: str, to: str, seconds: float) -> Story:
    return lambda stage: stage.then(
        0, lambda: stage.simulator.call(number, to=to, hangs_up_after_talk=seconds)
    )


def direct(number: str, extension: str, name: str = "Lab Caller", talks: float = 3.0) -> Story:
    return lambda stage: stage.then(
        0, lambda: stage.simulator.direct_call(number, extension, name=name, hangs_up_after_talk=talks)
    )


def presses(number: str, to: str, key: str, name: str = "Lab Caller") -> Story:
    return lambda stage: stage.then(
        0, lambda: stage.simulator.call(number, to=to, name=name, presses_key=(2.0, key))
    )


def dialled_a_did(stage: Stage) -> None:
    stage.then(
        0,
        lambda: stage.simulator.call(
            "+12025550121",
            to="3000",
            dialled="+12025551000",
            gives_up_after=3.0,
            variables={"crm_id": "C-4711"},
        ),
    )


def picked_up_by_a_colleague(stage: Stage) -> None:
    def begin() -> None:
        call = stage.simulator.call("+12025550124", to="3000", hangs_up_after_talk=None)
        stage.then(2.0, lambda: call.intercept(by="agent1002"))

    stage.then(0, begin)


def somebody_gave_up_before(stage: Stage) -> None:
    stage.simulator.call("+12025550100", to="3000", gives_up_after=3.0)
    stage.clock.advance(20)


def everything_is_hung_up(number: str, to: str, after: float, name: str = "Lab Caller") -> Story:
    def story(stage: Stage) -> None:
        stage.then(0, lambda: stage.simulator.call(number, to=to, name=name))
        stage.then(after, lambda: stage.simulator.api("hupall NORMAL_CLEARING"))

    return story


def nothing_else(stage: Stage) -> None:
    """Only the recording's own commands."""


Story = Callable[[Stage], None]

STORIES: dict[str, tuple[Story, ...]] = {
    "abandoned": (caller("+12025550100", "3000", 3.0),),
    "abandoned_before_answer": (everything_is_hung_up("+12025550117", "3300", 6.0, name=""),),
    "abandoned_then_resumed": (
        caller("+12025550106", "3100", 2.0),
        caller("+12025550106", "3100", 2.0, starts=5.0),
    ),
    "abandoned_while_ringing": (on_duty("1003@default"), caller("+12025550101", "3100", 2.5)),
    "agent_states": (somebody_gave_up_before,),
    "answered": (on_duty("1001@default"), talker("+12025550105", "3000", 4.3)),
    "did_transferred_abandoned": (dialled_a_did,),
    "direct_answered": (direct("+12025550110", "agent7004"),),
    "direct_busy": (direct("+12025550107", "busy7001"),),
    "direct_early_media": (direct("+12025550123", "early7008"),),
    "direct_no_answer": (direct("+12025550108", "mute7002"),),
    "disconnect": (nothing_else,),
    "duplicate_origination_uuid": (nothing_else,),
    "errors": (nothing_else,),
    "exit_with_key": (presses("+12025550104", "3100", "9"),),
    "hook_missed": (caller("+12025550119", "3400", name="Smith"),),
    "hook_request": (presses("+12025550120", "3500", "1"),),
    "intercepted_from_the_queue": (picked_up_by_a_colleague,),
    "members_abandoned": (caller("+12025550111", "3000", 2.0),),
    "odd_caller_id": (
        caller("anonymous", "3000", 1.5, name="x"),
        caller("+12025550113", "3000", 1.5, starts=3.0, name="Иван Петров 100% ☎"),
        caller("+1900\nEvent-Name", "3000", 1.5, starts=6.0, name=" +19005550000"),
    ),
    "originate_answered": (nothing_else,),
    "originate_busy": (nothing_else,),
    "originate_missing": (nothing_else,),
    "originate_no_answer": (nothing_else,),
    "originate_no_gateway": (nothing_else,),
    "overflow_answered": (on_duty("1001@default", 5.0), talker("+12025550115", "3200", 5.3)),
    "queue_timeout": (on_duty("1003@default"), caller("+12025550103", "3100")),
    "queue_timeout_no_agent": (everything_is_hung_up("+12025550102", "3100", 9.0),),
    "recall_agent_declines": (on_duty("1001@default"),),
    "recall_agent_first_client_busy": (on_duty("1001@default"),),
    "recall_agent_first_client_hangs_up": (on_duty("1001@default"),),
    "recall_early_media": (on_duty("1001@default"),),
    "recall_through_the_queue": (on_duty("1001@default"),),
    "recall_through_the_queue_abandoned": (nothing_else,),
    "reserved_agent_is_skipped_by_queue": (
        on_duty("1001@default"),
        caller("+12025550112", "3000", 4.0, starts=0.22),
    ),
    "reserved_recall_agent_first": (on_duty("1001@default"),),
    "reserved_recall_client_first": (on_duty("1001@default"),),
    "shutdown": (nothing_else,),
}


def frames_of(name: str) -> list[tuple[float, str, str]]:
    lines = (CAPTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(frame["t"], frame["dir"], frame["data"]) for frame in map(json.loads, lines)]


def begin_of(name: str) -> float:
    """When a recording was made: its seconds then begin where those of the recording did."""
    for at, _, text in frames_of(name):
        stamp = re.search(r"Event-Date-Timestamp: (\d+)", text)
        if stamp:
            return int(stamp[1]) / 1_000_000 - at
    return 1_795_378_680.0


def play(name: str) -> list[str]:
    """The frames that the simulator sends when it plays the story of a recording."""
    stage = Stage(begin_of(name))
    for story in STORIES[name]:
        story(stage)
    recorded = frames_of(name)
    last = recorded[-1][0]
    for at, direction, text in recorded:
        if direction == "send":
            stage.at(at, lambda text=text: stage.send(text))
    if any("Logged%20Out" in text for _, direction, text in recorded[-6:] if direction == "recv"):
        stage.at(last + 2.0, stage.everybody_logs_out)
    stage.clock.advance(last + 5.0)
    return stage.frames


def body_of(frame: str) -> tuple[dict[str, str], str]:
    head, _, body = frame.partition("\n\n")
    return dict(line.partition(": ")[::2] for line in head.split("\n")), body


def events_of(frames: list[str]) -> list[Event]:
    """The events among the frames, headers decoded, HEARTBEATs left out."""
    events = []
    for frame in frames:
        headers, body = body_of(frame)
        if headers.get("Content-Type") == "text/event-plain":
            head, _, inner = body.partition("\n\n")
            event = {}
            for line in head.split("\n"):
                key, _, value = line.partition(": ")
                event[key] = unquote(value)
            event["_body"] = inner
            if event["Event-Name"] != "HEARTBEAT":
                events.append(event)
    return events


def parts_of(events: list[Event]) -> dict[str, str]:
    """By uuid: what part each leg plays, e.g. `inbound default +12025550100->3000 #1`."""
    parts: dict[str, str] = {}
    seen: dict[str, int] = {}
    for event in events:
        if event["Event-Name"] == "CHANNEL_CREATE":
            what = (
                f"{event['Call-Direction']} {event['Caller-Context']} "
                f"{event['Caller-Caller-ID-Number']}->{event['Caller-Destination-Number']}"
            )
            seen[what] = seen.get(what, 0) + 1
            parts[event["Unique-ID"]] = f"{what} #{seen[what]}"
    return parts


def comparable(event: Event, headers: list[str], parts: dict[str, str]) -> Event:
    values = {}
    races = event["Event-Name"] == "CHANNEL_HANGUP_COMPLETE" and event.get("variable_cc_side") == "agent"
    for name in headers:
        if name in event and not (races and name in RACES):
            value = event[name]
            if TIMES.search(name):
                value = "0" if value == "0" else "set"
            values[name] = UUID.sub(lambda uuid: f"<{parts.get(uuid[0], 'uuid')}>", value)
    return values


def streams_of(events: list[Event]) -> dict[str, list[Event]]:
    """The events of each leg, agent, queue and background job, in their order."""
    parts = parts_of(events)
    streams: dict[str, list[Event]] = {}
    jobs: list[str] = []
    for event in events:
        leg = event.get("Unique-ID")
        if leg is not None:
            world = "sofia/pstn/" in event["Channel-Name"]
            stream = parts[leg]
            headers = OF_ANY_LEG if world else OF_ANY_LEG + OF_OUR_LEGS
        else:
            stream = event.get("CC-Agent") or event.get("CC-Queue") or "jobs"
            headers = OF_NO_LEG
        streams.setdefault(stream, []).append(comparable(event, headers, parts))
        if event["Event-Name"] == "BACKGROUND_JOB":
            jobs.append(UUID.sub(lambda uuid: f"<{parts.get(uuid[0], 'uuid')}>", event["_body"]))
    return streams | {"job results": [{"_body": body} for body in jobs]}


def replies_of(frames: list[str]) -> list[str]:
    """What was answered to each command; of tables only the columns, of numbers and uuids only that they
    are."""
    replies = []
    for frame in frames:
        headers, body = body_of(frame)
        kind = headers.get("Content-Type", "")
        if kind.startswith("text/event"):
            continue
        text = UUID.sub("<uuid>", headers.get("Reply-Text", "") + body)
        if "|" in text:
            text = text.split("\n")[0]
        if text.startswith("{"):
            answer = json.loads(text)
            rows = answer.get("rows") or answer.get("response") or [{}]
            text = f"{sorted(key for key in answer)}"
            text += (
                f"{sorted(set(rows[0]) & {'name', 'state', 'dest', 'cid_num', 'call_uuid', 'session_uuid'})}"
            )
        replies.append(f"{kind} {re.sub(r'[0-9]+', 'N', text)}")
    return replies


@pytest.mark.parametrize("name", sorted(STORIES))
def test_the_same_story_gives_the_same_events(name: str) -> None:
    recorded = streams_of(events_of([text for _, direction, text in frames_of(name) if direction == "recv"]))
    played = streams_of(events_of(play(name)))
    assert sorted(played) == sorted(recorded)
    for stream, events in recorded.items():
        what = [(event.get("Event-Name"), event.get("CC-Action")) for event in events]
        assert [(event.get("Event-Name"), event.get("CC-Action")) for event in played[stream]] == what, stream
        for mine, theirs in zip(played[stream], events, strict=True):
            assert mine == theirs, f"{stream}: {theirs.get('Event-Name')} {theirs.get('CC-Action', '')}"


@pytest.mark.parametrize("name", sorted(STORIES))
def test_the_same_commands_get_the_same_replies(name: str) -> None:
    recorded = replies_of([text for _, direction, text in frames_of(name) if direction == "recv"])
    assert replies_of(play(name)) == recorded


def missed_calls(frames: list[str]) -> list[tuple[object, ...]]:
    """What the engine would write down, uuids and moments left out."""
    rules = CaptureRules(direct=(Direct("default", re.compile(r"^[a-z]+700\d$"), "support@default"),))
    capture, framer, rows = Capture("fs1", rules), Framer(), {}
    framer.feed("".join(frames).encode("utf-8", "surrogateescape"))
    for frame in framer.frames():
        for fact in capture.feed(frame) if isinstance(frame, EslEvent) else ():
            if isinstance(fact, Missed):
                rows[fact.call_uuid] = fact
            else:
                rows.pop(fact.call_uuid, None)
    return [
        (row.phone, row.calledid, row.timewait, row.reason, row.operator, row.hangup_cause, row.queue)
        for row in rows.values()
    ]


@pytest.mark.parametrize("name", sorted(STORIES))
def test_the_engine_writes_down_the_same_missed_calls(name: str) -> None:
    recorded = missed_calls([text for _, direction, text in frames_of(name) if direction == "recv"])
    assert missed_calls(play(name)) == recorded


def test_every_recording_is_a_story() -> None:
    assert sorted(STORIES) == sorted(path.stem for path in CAPTURES.glob("*.jsonl"))


def test_the_same_seed_gives_the_same_bytes() -> None:
    def run(seed: int) -> list[str]:
        clock = ManualClock()
        sim = Simulator(seed=seed, clock=clock)
        sim.add_queue("support@default", extension="3000")
        sim.add_agent("1001@default")
        sim.add_tier("support@default", "1001@default")
        frames: list[str] = []
        client = sim.attach(lambda frame: frames.append(frame.decode()))
        client.receive(f"auth ClueCon\n\n{EVENTS}\n\n".encode())
        for number in range(20):
            sim.call(f"+120255501{number:02}", gives_up_after=1.0 + number / 7, hangs_up_after_talk=1.0)
            clock.advance(0.3)
        clock.advance(30)
        return frames

    assert run(7) == run(7)
    assert run(7) != run(8)
