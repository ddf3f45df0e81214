"""Values become exact text, or are refused; a caller's words never get the chance."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.errors import CommandFailed, UnsafeValue
from freeswitch_callback.esl import commands
from freeswitch_callback.esl.commands import Command, Originate, succeeded
from freeswitch_callback.esl.contact import Destination
from tests.hostile import VALUES

HARMLESS_THERE = {
    ("reason", "anonymous"),
    ("job_uuid", "anonymous"),
    ("job_uuid", "1-800-FLOWERS"),
    ("call_uuid", "anonymous"),
    ("call_uuid", "1-800-FLOWERS"),
}

RECALL = Originate(
    job_uuid="11111111-2222-3333-4444-555555555555",
    call_uuid="7f0b9cb3-4081-474e-b20e-f99ec80632e7",
    entry=7,
    mode="agent-first",
    number="+12025550206",
    dial_string="sofia/gateway/main/{number}",
    caller_id_number="+12025559999",
    contact="[leg_timeout=8]sofia/internal/agent1001@127.0.0.1:5090",
    queue="support@default",
    ring_timeout=30,
    wait=157,
    reason="abandoned",
    missed_id=12,
)


class TestGoldenText:
    @pytest.mark.parametrize(
        ("command", "text"),
        [
            (commands.auth("lab secret'"), "auth lab secret'"),
            (commands.event_plain(["HEARTBEAT"]), "event plain HEARTBEAT"),
            (
                commands.event_plain(["CHANNEL_HANGUP", "CUSTOM"], ["callcenter::info", "callback::missed"]),
                "event plain CHANNEL_HANGUP CUSTOM callcenter::info callback::missed",
            ),
            (commands.api("uptime"), "api uptime"),
            (
                commands.reserve("1001@default"),
                "api callcenter_config agent set state_if_waiting 1001@default Reserved",
            ),
            (commands.release("1001@default"), "api callcenter_config agent set state 1001@default Waiting"),
            (
                commands.release("Зоя@default", "Idle"),
                "api callcenter_config agent set state Зоя@default Idle",
            ),
            (
                commands.ready_at("1001@default", 1795378825),
                "api callcenter_config agent set ready_time 1001@default 1795378825",
            ),
            (
                commands.agent_list(),
                'api json {"command":"callcenter_config","data":{"arguments":"agent list"}}',
            ),
            (
                commands.tier_list(),
                'api json {"command":"callcenter_config","data":{"arguments":"tier list"}}',
            ),
            (
                commands.queue_list(),
                'api json {"command":"callcenter_config","data":{"arguments":"queue list"}}',
            ),
            (
                commands.members("support@default"),
                'api json {"command":"callcenter_config",'
                '"data":{"arguments":"queue list members","queue_name":"support@default"}}',
            ),
            (commands.show_channels(), "api show channels as json"),
            (commands.core_uuid(), "api global_getvar core_uuid"),
            (commands.uuid_exists("U-1"), "api uuid_exists U-1"),
            (commands.uuid_kill("U-1", "ORIGINATOR_CANCEL"), "api uuid_kill U-1 ORIGINATOR_CANCEL"),
            (commands.db_insert("callback", "U.answered"), "api db insert/callback/U.answered/1"),
            (commands.db_select("callback", "U.answered"), "api db select/callback/U.answered"),
            (commands.db_delete("callback", "U.answered"), "api db delete/callback/U.answered"),
        ],
    )
    def test_each_command_is_exactly_this(self, command: Command, text: str) -> None:
        assert command == text + "\n\n"

    def test_agent_first(self) -> None:
        assert RECALL.command == (
            "bgapi originate {origination_uuid=7f0b9cb3-4081-474e-b20e-f99ec80632e7,callback_entry=7,"
            "ignore_early_media=true,ignore_display_updates=true,originate_timeout=30,"
            "origination_caller_id_name='Recall 2m37s abandoned',origination_caller_id_number=+12025550206,"
            "sip_h_X-Callback-Id=12,sip_h_X-Callback-Wait=157,sip_h_X-Callback-Reason=abandoned,"
            "sip_copy_custom_headers=false,"
            "api_on_answer='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.answered/1',"
            "api_hangup_hook='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.ended/1'}"
            "[leg_timeout=8]sofia/internal/agent1001@127.0.0.1:5090 "
            "&bridge({callback_entry=7,ignore_early_media=true,ignore_display_updates=true,originate_timeout=30,"
            "origination_caller_id_name=+12025559999,origination_caller_id_number=+12025559999,"
            "api_on_answer='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.second/1'}"
            "sofia/gateway/main/+12025550206)\n"
            "Job-UUID: 11111111-2222-3333-4444-555555555555\n\n"
        )

    def test_client_first(self) -> None:
        assert replace(RECALL, mode="client-first", reason="no_answer", wait=45).command == (
            "bgapi originate {origination_uuid=7f0b9cb3-4081-474e-b20e-f99ec80632e7,callback_entry=7,"
            "ignore_early_media=true,ignore_display_updates=true,originate_timeout=30,origination_caller_id_name=+12025559999,origination_caller_id_number=+12025559999,"
            "api_on_answer='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.answered/1',"
            "api_hangup_hook='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.ended/1'}"
            "sofia/gateway/main/+12025550206 "
            "&bridge({callback_entry=7,ignore_early_media=true,ignore_display_updates=true,originate_timeout=30,"
            "origination_caller_id_name='Recall 45s no answer',origination_caller_id_number=+12025550206,"
            "sip_h_X-Callback-Id=12,sip_h_X-Callback-Wait=45,sip_h_X-Callback-Reason=no_answer,"
            "api_on_answer='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.second/1'}"
            "[leg_timeout=8]sofia/internal/agent1001@127.0.0.1:5090)\n"
            "Job-UUID: 11111111-2222-3333-4444-555555555555\n\n"
        )

    def test_through_the_queue(self) -> None:
        assert replace(RECALL, mode="queue", contact="").command == (
            "bgapi originate {origination_uuid=7f0b9cb3-4081-474e-b20e-f99ec80632e7,callback_entry=7,"
            "ignore_early_media=true,ignore_display_updates=true,originate_timeout=30,origination_caller_id_name=+12025559999,origination_caller_id_number=+12025559999,"
            "origination_callee_id_number=+12025550206,"
            "cc_export_vars=nolocal:api_on_answer,"
            "nolocal:api_on_answer='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.second/1',"
            "api_on_answer='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.answered/1',"
            "api_hangup_hook='db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.ended/1'}"
            "sofia/gateway/main/+12025550206 &callcenter(support@default)\n"
            "Job-UUID: 11111111-2222-3333-4444-555555555555\n\n"
        )

    @pytest.mark.parametrize(
        ("seconds", "shown"), [(0, "0s"), (59, "59s"), (60, "1m00s"), (157, "2m37s"), (3720, "1h02m")]
    )
    def test_how_long_somebody_waited(self, seconds: int, shown: str) -> None:
        assert commands.duration(seconds) == shown

    def test_a_house_extension_is_a_number_too(self) -> None:
        assert "sofia/gateway/main/7005 &" in replace(RECALL, mode="queue", number="7005").command

    def test_the_label_for_the_log_never_shows_the_password(self) -> None:
        assert commands.auth("secret").label == "auth"
        assert commands.api("uptime").label == "api uptime"


class TestWhatIsRefused:
    @pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:40])
    @pytest.mark.parametrize(
        "field", ["number", "caller_id_number", "job_uuid", "call_uuid", "reason", "mode"]
    )
    def test_a_recall_is_not_made_from_it(self, field: str, value: str) -> None:
        changed: dict[str, Any] = {field: value}
        if (field, value) in HARMLESS_THERE:
            assert replace(RECALL, **changed).command.count("\n") == 3
            return
        with pytest.raises(UnsafeValue):
            replace(RECALL, **changed)

    @pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:40])
    def test_it_names_no_agent_and_no_queue(self, value: str) -> None:
        plain = bool(re.fullmatch(r"[\w@:+#*-]{1,40}", value)) and ":_:" not in value
        for render in (commands.reserve, commands.release, commands.members):
            if plain:
                assert render(value).count("\n") == 2
            else:
                with pytest.raises(UnsafeValue):
                    render(value)

    @pytest.mark.parametrize("value", ["a\nb", "a\n", "\n\napi system x", "a\r", "a\x00", "\ud800"])
    def test_a_password_that_would_start_another_line(self, value: str) -> None:
        with pytest.raises(UnsafeValue) as error:
            commands.auth(value)
        assert repr(value) not in str(error.value)

    @pytest.mark.parametrize("field", ["entry", "ring_timeout", "wait", "missed_id"])
    @pytest.mark.parametrize("value", [-1, "1", "1,a=b", 1.5, None, True, 2**64])
    def test_a_figure_that_is_none(self, field: str, value: Any) -> None:
        with pytest.raises(UnsafeValue):
            replace(RECALL, **{field: value})

    @pytest.mark.parametrize(
        "dial_string",
        [
            "sofia/gateway/main/",
            "sofia/gateway/{number}/{number}",
            "sofia/gateway/a/{number},sofia/gateway/b/{number}",
            "sofia/gateway/a/1,sofia/gateway/b/{number}",
            "sofia/gateway/a/1|sofia/gateway/b/{number}",
            "sofia/gateway/a/1:_:sofia/gateway/b/{number}",
            "sofia/gateway/a/{number} &system(x)",
            "sofia/gateway/${gw}/{number}",
            "[execute_on_answer='system x']sofia/gateway/a/{number}",
            "[api_on_answer=system]sofia/gateway/a/{number}",
            "[origination_uuid=x]sofia/gateway/a/{number}",
            "{number}",
        ],
    )
    def test_a_dial_string_that_dials_something_else(self, dial_string: str) -> None:
        with pytest.raises(UnsafeValue):
            replace(RECALL, dial_string=dial_string)

    def test_a_dial_string_may_bring_plain_variables(self) -> None:
        recall = replace(RECALL, mode="queue", dial_string="{sip_cid_type=pid}sofia/gateway/main/{number}")
        assert "}[sip_cid_type=pid]sofia/gateway/main/+12025550206 &" in recall.command

    @pytest.mark.parametrize("value", ["a'b", "a,b", "a}b", "${a}", "a\nb", "a\\b"])
    def test_a_variable_is_looked_at_again_where_it_is_written(self, value: str) -> None:
        """Every value is checked where it comes from; this is the net below."""
        with pytest.raises(UnsafeValue):
            commands._variables({"origination_caller_id_name": value})

    def test_nothing_to_subscribe_to(self) -> None:
        with pytest.raises(UnsafeValue):
            commands.event_plain([])

    def test_an_unsafe_value_is_named_but_not_at_full_length(self) -> None:
        with pytest.raises(UnsafeValue, match="number") as error:
            replace(RECALL, number="a" * 70000)
        assert len(str(error.value)) < 300


class TestContacts:
    @pytest.mark.parametrize(
        ("contact", "rendered"),
        [
            ("user/1001@default", "user/1001@default"),
            (
                "[leg_timeout=8]sofia/internal/agent1001@127.0.0.1:5090",
                "[leg_timeout=8]sofia/internal/agent1001@127.0.0.1:5090",
            ),
            ("{a=1}[b=2]{c=3} user/1001", "[a=1,b=2,c=3]user/1001"),
            (
                "{call_timeout=20,domain_name=example.com,"
                "execute_on_pre_bridge='record_session /var/${strftime(%Y)}/x.wav'}user/1001@example.com",
                "[call_timeout=20,domain_name=example.com]user/1001@example.com",
            ),
            ("[execute_on_answer=park,leg_timeout=8]user/1001", "[leg_timeout=8]user/1001"),
            ("[api_hangup_hook=x,exec_x=1,bridge_pre_execute_bleg_app=x]user/1001", "user/1001"),
            ("[origination_uuid=x,origination_caller_id_name=x,sip_h_X-Callback-Id=1]user/1", "user/1"),
            ("[ignore_early_media=false,originate_retries=5,callback_entry=1]user/1", "user/1"),
            ("[a='b,execute_on_answer=system x',c=d]user/1", "[c=d]user/1"),
            ("[a='x,leg_timeout=99,y',c=d]user/1", "[c=d]user/1"),
            ("[^^:a=b:c=d]user/1", "[a=b,c=d]user/1"),
            ("[a=b c,d=,nothing]user/1", "[d=]user/1"),
            ("sofia/internal/1001%10.0.0.5", "sofia/internal/1001%10.0.0.5"),
            ("verto.rtc/1001@example.com", "verto.rtc/1001@example.com"),
            (
                "sofia/internal/sip:1001@10.0.0.5:5060;transport=tcp",
                "sofia/internal/sip:1001@10.0.0.5:5060;transport=tcp",
            ),
            ("sofia/internal/1001@[2001:db8::1]:5060", "sofia/internal/1001@[2001:db8::1]:5060"),
        ],
    )
    def test_what_is_plain_is_kept(self, contact: str, rendered: str) -> None:
        assert Destination.of_contact(contact).render() == rendered

    @pytest.mark.parametrize(
        "contact", ["user/1,user/2", "user/1|user/2", "user/1:_:user/2", "[a=1]user/1,[a=2]user/2"]
    )
    def test_several_destinations_are_refused_with_a_word_on_what_to_do(self, contact: str) -> None:
        with pytest.raises(UnsafeValue, match="one contact"):
            Destination.of_contact(contact)

    @pytest.mark.parametrize("value", [value for value in VALUES if value != "a" * 70000], ids=ascii)
    def test_nothing_hostile_is_a_destination_or_a_variable(self, value: str) -> None:
        with pytest.raises(UnsafeValue):
            Destination.of_contact(value)
        try:
            kept = Destination.of_contact(f"[a={value}]user/1").render()
        except UnsafeValue:
            return
        assert re.fullmatch(r"(\[[A-Za-z0-9_-]+=[^]\[{}()'\"$,\\\s]*\])?user/1", kept)

    @pytest.mark.parametrize(
        "contact",
        [
            "[a=b",
            "{a={b}user/1",
            "<a=b>user/1",
            "user/",
            "error",
            "user/1(x)",
            "user/$1",
            "[a=" + "b" * 5000 + "]user/1",
        ],
    )
    def test_what_is_no_contact(self, contact: str) -> None:
        with pytest.raises(UnsafeValue):
            Destination.of_contact(contact)


ANYTHING = st.one_of(st.sampled_from(VALUES), st.text(max_size=40))
OFTEN_PLAIN = st.one_of(st.from_regex(r"[a-z0-9@._+-]{1,12}", fullmatch=True), ANYTHING)
CONTACT_LIKE = st.lists(
    st.sampled_from(
        [
            *"{}[]<>=,'|\\$^: \n&()",
            ":_:",
            "a",
            "b=c",
            "user/1",
            "execute_on_answer",
            "${x}",
            "^^:",
            "leg_timeout=8",
        ]
    ),
    max_size=14,
).map("".join)

OUR_FIRST = [
    "origination_uuid",
    "callback_entry",
    "ignore_early_media",
    "ignore_display_updates",
    "originate_timeout",
]
SHOWN_TO_CLIENT = ["origination_caller_id_name", "origination_caller_id_number"]
SHOWN_TO_AGENT = [
    "origination_caller_id_name",
    "origination_caller_id_number",
    "sip_h_X-Callback-Id",
    "sip_h_X-Callback-Wait",
    "sip_h_X-Callback-Reason",
]

OWN = r"(?:\[([^][{}'$ ]*)\])?"
ENDPOINT = r"([^][{}(), '|$\\]+(?:\[[0-9A-Fa-f:.]+\][:0-9]*)?)"
BRIDGE = r"bridge\(\{([^{}]*)\}" + OWN + ENDPOINT + r"\)"
CALLCENTER = r"callcenter\(([^(){}, '|]+)\)"
SHAPE = re.compile(
    r"bgapi originate \{([^{}]*)\}" + OWN + ENDPOINT + f" &(?:{BRIDGE}|{CALLCENTER})\nJob-UUID: [0-9-]+\n\n"
)


def variable_names(block: str) -> list[str]:
    """As FreeSWITCH reads `{…}`: at commas outside quotes."""
    return [pair.partition("=")[0] for pair in re.split(r",(?=(?:[^']*'[^']*')*[^']*$)", block)]


class TestWhateverIsGiven:
    @given(
        number=OFTEN_PLAIN,
        caller_id=OFTEN_PLAIN,
        contact=st.one_of(OFTEN_PLAIN, CONTACT_LIKE, CONTACT_LIKE.map(lambda text: text + "user/1")),
        queue=OFTEN_PLAIN,
        reason=OFTEN_PLAIN,
        mode=st.sampled_from(["agent-first", "client-first", "queue"]),
        dial=st.one_of(
            st.just("sofia/gateway/main/{number}"), CONTACT_LIKE.map(lambda text: text + "x/{number}")
        ),
    )
    def test_a_recall_is_refused_or_is_one_command_with_our_variables(
        self, number: str, caller_id: str, contact: str, queue: str, reason: str, mode: Any, dial: str
    ) -> None:
        self._check(number, caller_id, contact, queue, reason, mode, dial)

    @given(
        contact=CONTACT_LIKE.map(lambda text: text + "user/1"),
        mode=st.sampled_from(["agent-first", "client-first"]),
    )
    def test_a_contact_adds_plain_variables_only(self, contact: str, mode: Any) -> None:
        self._check(
            "+12025550206", "+12025559999", contact, "q", "abandoned", mode, "sofia/gateway/main/{number}"
        )

    @staticmethod
    def _check(
        number: str, caller_id: str, contact: str, queue: str, reason: str, mode: Any, dial: str
    ) -> None:
        try:
            text = replace(
                RECALL,
                number=number,
                caller_id_number=caller_id,
                contact=contact,
                queue=queue,
                reason=reason,
                mode=mode,
                dial_string=dial,
            ).command
        except UnsafeValue:
            return
        assert text.count("\n") == 3
        assert text.endswith("\n\n")
        assert text.replace("\n", "").isprintable()
        shape = SHAPE.fullmatch(text)
        assert shape, text
        first, second = variable_names(shape[1]), variable_names(shape[4] or "")
        assert first[:5] == OUR_FIRST
        assert first[-2:] == ["api_on_answer", "api_hangup_hook"]
        if mode == "agent-first":
            assert first[5:-2] == [*SHOWN_TO_AGENT, "sip_copy_custom_headers"]
            assert second == [*OUR_FIRST[1:], *SHOWN_TO_CLIENT, "api_on_answer"]
        elif mode == "client-first":
            assert first[5:-2] == SHOWN_TO_CLIENT
            assert second == [*OUR_FIRST[1:], *SHOWN_TO_AGENT, "api_on_answer"]
        else:
            assert first[5:8] == [*SHOWN_TO_CLIENT, "origination_callee_id_number"]
            assert first[8:-2] == ["cc_export_vars", "nolocal:api_on_answer"]
        for own in (shape[2], shape[5]):
            for name in variable_names(own) if own else ():
                assert not name.startswith(("execute_on_", "api_", "origination_", "originate_", "callback_"))

    @given(value=OFTEN_PLAIN)
    def test_a_name_a_key_an_event_is_refused_or_stays_one_word(self, value: str) -> None:
        for render in (
            commands.reserve,
            commands.members,
            commands.uuid_exists,
            commands.uuid_kill,
            lambda text: commands.db_select("callback", text),
            lambda text: commands.event_plain([text]),
            lambda text: commands.event_plain([], [text]),
            commands.api,
        ):
            try:
                text = render(value)
            except UnsafeValue:
                continue
            assert text.count("\n") == 2
            assert text.endswith("\n\n")
            assert text[:-2].isprintable()

    @given(value=st.text(max_size=40))
    def test_a_password_is_refused_or_stays_one_line(self, value: str) -> None:
        try:
            text = commands.auth(value)
        except UnsafeValue:
            return
        assert text == f"auth {value}\n\n"
        assert text.encode().count(b"\n") == 2


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "value"),
        [("+OK\n", ""), ("+OK 7f0b\n", "7f0b"), ("Waiting", "Waiting"), ("24\n", "24"), ("", "")],
    )
    def test_what_stands_behind_ok(self, answer: str, value: str) -> None:
        assert succeeded(answer, commands.api("uptime")) == value

    def test_err_says_what_was_asked(self) -> None:
        with pytest.raises(CommandFailed, match=r"api uptime.*Command not found"):
            succeeded("-ERR uptime Command not found!\n", commands.api("uptime"))


class TestThroughTheDialplan:
    """With `connect` the first leg goes through an extension of the dialplan; what is dialled stays ours."""

    def test_agent_first(self) -> None:
        text = replace(RECALL, connect="callback_connect").command.splitlines()[0]
        assert ",callback_mode=agent-first," in text
        assert text.endswith(
            "[leg_timeout=8]sofia/internal/agent1001@127.0.0.1:5090"
            " 'm:|:execute_extension:callback_connect XML default|bridge:{callback_entry=7,"
            "ignore_early_media=true,ignore_display_updates=true,originate_timeout=30,"
            "origination_caller_id_name=+12025559999,origination_caller_id_number=+12025559999,"
            "api_on_answer=db insert/callback/7f0b9cb3-4081-474e-b20e-f99ec80632e7.second/1}"
            "sofia/gateway/main/+12025550206' inline"
        )

    def test_client_first_and_a_context(self) -> None:
        text = replace(RECALL, mode="client-first", connect="mine:public").command.splitlines()[0]
        then = text.partition("'m:|:")[2]
        assert then.startswith("execute_extension:mine XML public|bridge:{")
        assert "origination_caller_id_name=Recall 2m37s abandoned," in then
        assert "'" not in then.removesuffix("' inline")

    def test_queue(self) -> None:
        text = replace(RECALL, mode="queue", connect="callback_connect").command.splitlines()[0]
        assert text.endswith("XML default|callcenter:support@default' inline")

    @pytest.mark.parametrize("connect", ["a b", "a|b", "a'b", "a:b:c", "${x}", "a\nb", ":"])
    def test_what_is_no_extension_is_refused(self, connect: str) -> None:
        with pytest.raises(UnsafeValue):
            replace(RECALL, connect=connect)
