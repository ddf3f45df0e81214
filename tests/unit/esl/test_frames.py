"""Bytes to frames to events: whatever a caller or a broken server puts in, nothing is forged or hangs."""

import time
from collections.abc import Iterator
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.errors import ProtocolError
from freeswitch_callback.esl.frames import MAX_BODY, MAX_HEADERS, Event, Frame, Framer, JsonEvent, json_object
from tests import recordings


def received(name: str) -> list[bytes]:
    return [frame["data"].encode() for frame in recordings.frames(name) if frame["dir"] == "recv"]


def frames_of(*pieces: bytes) -> list[Frame | Event]:
    framer = Framer()
    frames: list[Frame | Event] = []
    for piece in pieces:
        framer.feed(piece)
        frames += list(framer.frames())
    return frames


def replies_of(*pieces: bytes) -> list[Frame]:
    """All that is no event."""
    return [frame for frame in frames_of(*pieces) if isinstance(frame, Frame)]


def events_of(*pieces: bytes) -> list[Event]:
    return [frame for frame in frames_of(*pieces) if isinstance(frame, Event)]


def raw(frames: list[Frame | Event]) -> list[object]:
    """To be compared."""
    return [frame.raw if isinstance(frame, Event) else frame for frame in frames]


def plain(text: str) -> Event:
    return Event(text.encode())


class TestFramer:
    @pytest.mark.parametrize("recording", recordings.NAMES)
    def test_a_recording_comes_out_frame_by_frame(self, recording: str) -> None:
        sent = received(recording)
        frames = frames_of(b"".join(sent))
        assert len(frames) == len(sent)
        for frame, data in zip(frames, sent, strict=True):
            plain_event = isinstance(frame, Event)
            assert data.endswith(frame.raw if plain_event else frame.body)
            content_type = "text/event-plain" if plain_event else frame.content_type
            assert f"Content-Type: {content_type}".encode() in data

    @given(st.data())
    def test_it_does_not_matter_how_the_stream_was_sliced(self, data: st.DataObject) -> None:
        stream = b"".join(received("abandoned")[:12])
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
        pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert raw(frames_of(*pieces)) == raw(frames_of(stream))

    def test_byte_by_byte_works_too(self) -> None:
        stream = b"".join(received("abandoned")[:5])
        pieces = [stream[at : at + 1] for at in range(len(stream))]
        assert raw(frames_of(*pieces)) == raw(frames_of(stream))

    @given(st.integers(0, 40_000), st.integers(1, 40_000))
    def test_an_event_reads_none_of_its_neighbours_bytes(self, offset: int, size: int) -> None:
        """They lie in one piece, one behind the other; the last line of one may be without its end."""
        bodies = [event.raw for event in events_of(b"".join(received("abandoned")))][:8]
        bodies += [
            b"Event-Name: X\nA: 1",
            b"Event-Subclass: y\nEvent-Name: CUSTOM\nB: 2\n\n",
            b"Event-Name: Z",
        ]
        head = b"Content-Length: %d\nContent-Type: text/event-plain\n\n"
        stream = b"".join(head % len(body) + body for body in bodies)
        pieces = [stream[:offset], *(stream[at : at + size] for at in range(offset, len(stream), size))]
        for event, body in zip(events_of(*pieces), bodies, strict=True):
            alone = Event(body)
            assert list(event.items()) == list(alone.items())
            for name in (
                "Event-Name",
                "Event-Subclass",
                "Unique-ID",
                "variable_cc_queue",
                "A",
                "B",
                "nobody's",
            ):
                assert event.get(name) == alone.get(name)

    def test_a_body_does_not_go_on_in_the_next_frame(self) -> None:
        short = b"Event-Name: BACKGROUND_JOB\nContent-Length: 50\n\n+OK\n"
        head = b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % len(short)
        for event in events_of((head + short) * 3):
            with pytest.raises(ProtocolError, match="shorter"):
                _ = event.body

    def test_blank_lines_between_frames_are_tolerated(self) -> None:
        assert [frame.content_type for frame in replies_of(b"\n\n\nContent-Type: auth/request\n\n\n\n")] == [
            "auth/request"
        ]

    def test_a_body_may_hold_anything(self) -> None:
        body = b"Content-Type: auth/request\n\n\n\n\xff"
        head = b"Content-Type: api/response\nContent-Length: %d\n\n" % len(body)
        assert frames_of(head + body) == [
            Frame(
                "api/response", {b"Content-Type": b"api/response", b"Content-Length": b"%d" % len(body)}, body
            )
        ]

    def test_the_same_content_length_twice_is_no_contradiction(self) -> None:
        frame = replies_of(b"Content-Length: 1\nContent-Length: 1\nContent-Type: api/response\n\nx")[0]
        assert frame.body == b"x"

    @pytest.mark.parametrize(
        ("stream", "said"),
        [
            (b"Content-Type\n\n", "without ': '"),
            (b": x\n\n", "without ': '"),
            (b"Content-Length: 1\nContent-Length: 2\nContent-Type: api/response\n\nxx", "different"),
            (b"Content-Type: api/response\nContent-Length: -1\n\n", "no number"),
            (b"Content-Type: api/response\nContent-Length: abc\n\n", "no number"),
            (b"Content-Type: api/response\nContent-Length: \n\n", "no number"),
            ("Content-Type: api/response\nContent-Length: ٣\n\n".encode(), "no number"),
            (b"Content-Type: api/response\nContent-Length: 1\r\n\n", "no number"),
            (b"Content-Type: api/response\nContent-Length: %d\n\n" % 10**12, "above"),
            (b"Content-Type: api/response\nContent-Length: %d\n\n" % (MAX_BODY + 1), "above"),
            (b"Content-Type: api/response\nContent-Length: " + b"9" * 5000 + b"\n\n", "above"),
            (b"Content-Type: api/response\n\n", "without Content-Length"),
            (b"Content-Type: text/event-plain\n\n", "without Content-Length"),
            (b"Reply-Text: +OK\n\n", "without Content-Type"),
            (b"A: " + b"x" * (MAX_HEADERS + 1), "more than"),
            (b"A: " + b"x" * (MAX_HEADERS + 1) + b"\n\n", "more than"),
            (b"HTTP/1.1 400 Bad Request\r\n", "HTTP/1.1"),
        ],
    )
    def test_what_is_no_frame_is_said_with_an_excerpt(self, stream: bytes, said: str) -> None:
        with pytest.raises(ProtocolError, match=said) as error:
            frames_of(stream)
        assert len(str(error.value)) < 500

    def test_what_came_before_the_garbage_is_still_given_out(self) -> None:
        framer = Framer()
        framer.feed(b"Content-Type: auth/request\n\ngarbage\n\n")
        frames = framer.frames()
        assert next(frames).content_type == "auth/request"
        with pytest.raises(ProtocolError):
            next(frames)

    def test_who_takes_one_frame_at_a_time_gets_a_short_one_behind_a_long_one(self) -> None:
        framer = Framer()
        long = b"Content-Type: api/response\nContent-Length: 1000\n\n" + b"x" * 1000
        framer.feed(long[:200])
        assert list(framer.frames()) == []
        framer.feed(long[200:])
        assert next(framer.frames()).body == b"x" * 1000
        framer.feed(b"Content-Type: auth/request\n\n")
        assert next(framer.frames()).content_type == "auth/request"

    @given(st.binary(max_size=300))
    def test_any_bytes_are_frames_or_a_protocol_error_or_not_finished(self, stream: bytes) -> None:
        try:
            frames_of(stream)
        except ProtocolError:
            pass

    def test_time_is_linear_however_small_the_pieces(self) -> None:
        """A quadratic framer takes minutes over this one."""
        body = b"x" * 8_000_000
        stream = b"Content-Type: api/response\nContent-Length: %d\n\n" % len(body) + body
        began = time.process_time()
        frames = replies_of(*(stream[at : at + 512] for at in range(0, len(stream), 512)))
        assert frames[0].body == body
        assert time.process_time() - began < 1.5


def forgeries() -> Iterator[str]:
    for newline in ("\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"):
        yield f"Bob{newline}Event-Name: FORGED"
    yield from ("Bob%0AEvent-Name: FORGED", "Bob%250AEvent-Name: FORGED", "100%", "%zz", "%c3%28", "Bob%00x")


class TestEvent:
    @pytest.mark.parametrize("recording", recordings.NAMES)
    def test_every_header_of_a_recording_reads_as_when_all_are_parsed(self, recording: str) -> None:
        for one in events_of(b"".join(received(recording))):
            expected: dict[str, str] = {}
            for line in one.raw.partition(b"\n\n")[0].decode().split("\n"):
                name, _, value = line.partition(": ")
                expected.setdefault(name, unquote(value, errors="backslashreplace"))
            assert one.name == expected["Event-Name"]
            assert dict(reversed(list(one.items()))) == expected
            assert {name: one.get(name) for name in expected} == expected
            assert one.timestamp == int(expected["Event-Date-Timestamp"]) / 1e6

    @pytest.mark.parametrize("value", list(forgeries()))
    def test_what_a_caller_sends_stays_one_value(self, value: str) -> None:
        one = plain(f"Event-Name: CUSTOM\nCaller-Caller-ID-Name: {quote(value)}\nUnique-ID: u\n\n")
        assert one.get("Caller-Caller-ID-Name") == value
        assert one.name == "CUSTOM"
        assert [name for name, _ in one.items()] == ["Event-Name", "Caller-Caller-ID-Name", "Unique-ID"]

    @given(st.text(), st.text())
    def test_any_text_survives_and_writes_no_header(self, first: str, second: str) -> None:
        one = plain(f"Event-Name: X\nA: {quote(first)}\nB: {quote(second)}\n\n")
        if first and second and "_undef_" not in (first, second):
            assert (one.get("A"), one.get("B")) == (first, second)
        assert len(list(one.items())) == 3

    def test_a_newline_in_a_real_sip_header_stays_in_its_value(self) -> None:
        events = events_of(*received("odd_caller_id"))
        numbers = {event.get("Caller-Caller-ID-Number") for event in events}
        assert "+1900\nEvent-Name" in numbers

    def test_bytes_that_are_no_utf8_come_out_readable(self) -> None:
        one = Event(b"Event-Name: X\nA: %ff%fe\nB: \xff\nC: %c3%28\n\n")
        assert [one.get(name) for name in "ABC"] == ["\\xff\\xfe", "\\xff", "\\xc3("]

    def test_a_header_is_found_by_its_whole_name_only(self) -> None:
        one = plain(
            "Event-Name: X\nOther-Unique-ID: o\nunique-id: lower\nUnique-ID-2: two\nA: Unique-ID: v\n\n"
        )
        assert one.get("Unique-ID") is None
        assert one.get("Unique-ID", "none") == "none"

    def test_the_first_of_two_wins(self) -> None:
        assert plain("Event-Name: X\nA: 1\nA: 2\n\n").get("A") == "1"

    def test_a_custom_event_begins_with_its_subclass(self) -> None:
        one = plain("Event-Subclass: callcenter%3A%3Ainfo\nEvent-Name: CUSTOM\n\n")
        assert (one.name, one.subclass) == ("CUSTOM", "callcenter::info")
        assert plain("Event-Name: HEARTBEAT\n\n").subclass is None

    def test_an_empty_value_is_written_undef(self) -> None:
        one = plain("Event-Name: X\nA: _undef_\nB: %5Fundef_\n\n")
        assert (one.get("A"), one.get("B")) == ("", "_undef_")

    def test_the_result_of_a_job_is_body_and_no_headers(self) -> None:
        inner = "+OK\nEvent-Name: FORGED\nUnique-ID: forged\n\nHangup-Cause: FORGED\n"
        one = plain(
            f"Event-Name: BACKGROUND_JOB\nJob-UUID: j\nContent-Length: {len(inner)}\n\n{inner}trailing"
        )
        assert one.body == inner.encode()
        assert one.name == "BACKGROUND_JOB"
        assert one.get("Unique-ID") is None
        assert one.get("Hangup-Cause") is None
        assert one.get("Job-UUID") == "j"
        assert [name for name, _ in one.items()] == ["Event-Name", "Job-UUID", "Content-Length"]

    def test_no_body_is_empty(self) -> None:
        assert plain("Event-Name: X\n\n").body == b""

    @pytest.mark.parametrize("length", ["5", "-1", "abc", "1000000000000"])
    def test_a_body_that_is_not_there_is_said(self, length: str) -> None:
        with pytest.raises(ProtocolError):
            _ = plain(f"Event-Name: X\nContent-Length: {length}\n\nabc").body

    @pytest.mark.parametrize(
        ("body", "name"),
        [
            (b"Event-Name: HEARTBEAT\n\n", "HEARTBEAT"),
            (b"Event-Name: X", "X"),
            (b"Event-Name: A%42\n\n", "AB"),
            (b"Event-Name: " + b"L" * 300 + b"\n\n", "L" * 300),
            (b"A: b\nEvent-Name: CUSTOM\n\n", "CUSTOM"),
            (b"Event-Subclass: s\nEvent-Name: CUSTOM", "CUSTOM"),
            (b"Event-Subclass: s\nEvent-Name: CUSTOMER\n\n", "CUSTOMER"),
            (b"Event-Subclass: " + b"s" * 300 + b"\nEvent-Name: CUSTOM\n\n", "CUSTOM"),
        ],
    )
    def test_its_name_is_found_in_whatever_line(self, body: bytes, name: str) -> None:
        assert Event(body).name == name
        assert Event(b"A: b\n" + body + b"\nEvent-Name: CUSTOM\n\n", 5, 5 + len(body)).name == name

    def test_what_stands_behind_an_event_is_not_its_name(self) -> None:
        body = b"Event-Subclass: s"
        for behind in (b"\nEvent-Name: CUSTOM\n\n", b"\n\nEvent-Name: CUSTOM\n\n"):
            with pytest.raises(ProtocolError, match="Event-Name"):
                Event(b"A: b\n" + body + behind, 5, 5 + len(body))
            with pytest.raises(ProtocolError, match="Event-Name"):
                Event(b"A: b\n" + body + behind, 5, 5 + len(body) + 2)

    @pytest.mark.parametrize(
        "body", [b"", b"\n\nEvent-Name: X\n\n", b"A: b\n\n", b"Event-Name: \n\n", b"A: b\n\nEvent-Name: X"]
    )
    def test_an_event_without_a_name_is_none(self, body: bytes) -> None:
        with pytest.raises(ProtocolError, match="Event-Name"):
            Event(body)

    @pytest.mark.parametrize("stamp", ["", "x", "-1", "٣", "9" * 400])
    def test_a_time_that_is_none_is_said(self, stamp: str) -> None:
        with pytest.raises(ProtocolError, match="Timestamp"):
            _ = plain(f"Event-Name: X\nEvent-Date-Timestamp: {quote(stamp)}\n\n").timestamp

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_event_or_a_protocol_error(self, body: bytes) -> None:
        try:
            one = Event(b"Event-Name: X\n" + body)
        except ProtocolError:
            return
        assert all(isinstance(value, str) for _, value in one.items())


class TestJson:
    def test_an_event_in_json_has_the_same_face(self) -> None:
        frame = next(
            frame for frame in replies_of(*received("errors")) if frame.content_type == "text/event-json"
        )
        one = JsonEvent(frame.body)
        assert (one.name, one.get("Job-Command"), one.subclass) == ("BACKGROUND_JOB", "status", None)
        assert one.timestamp == 1795378935.626712
        assert one.body.startswith(b"UP 0 years")

    def test_odd_text_is_readable(self) -> None:
        one = JsonEvent(b'{"Event-Name":"X","A":"\xff","B":"\\ud800","C":["1","2"],"D":"a\nb"}')
        assert dict(one.items()) == {"Event-Name": "X", "A": "\ufffd", "B": "\\ud800", "C": "1", "D": "a\nb"}
        assert (one.get("C"), one.get("nothing", "none")) == ("1", "none")

    @pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"[" * 100_000, b'{"A":"no name"}'])
    def test_what_is_no_event_is_said(self, data: bytes) -> None:
        with pytest.raises(ProtocolError):
            JsonEvent(data)

    def test_an_object_is_an_object(self) -> None:
        assert json_object(b'{"row_count":0}') == {"row_count": 0}
