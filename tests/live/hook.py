"""The files of `dialplan/` on a real FreeSWITCH, and callers who send what they should not."""

from __future__ import annotations

import re
import socket
import uuid

import gevent

from tests.live.centre import Centre
from tests.live.suite import Play, expect

HOSTILE = {
    "line feed": "%0AEvent-Name:FORGED",
    "carriage return": "Bob%0d%0aX:1",
    "variable": "${system(touch /tmp/x)}",
    "comma": "100,loopback/900",
    "bar": "100|loopback/900",
    "legs": "100:_:loopback/900",
    "braces": "{a=b}100",
    "application": "100%20&bridge(loopback/900)",
    "quotes": "Bob',execute_on_answer='system x",
    "emoji": "😀",
    "bad UTF-8": "\udcff\udcfe",
    "long": "a" * 2000,
    "premium": "+19005551234",
    "Jamaica": "+18765551234",
}


def missed_and_listened(centre: Centre) -> str:
    centre.switch.api("global_setvar phone_1104=busy")
    number = centre.client()
    centre.calls(number, "hook1104")
    row = centre.row(number, within=10, hangup_cause="NORMAL_CLEARING")
    centre.until(
        lambda: "-ERR" in centre.switch.api("db list/callback_missed"), 15, "the record to be struck"
    )
    return expect(row, reason="busy", operator="1104", queue="quiet@default")


def asked_in_the_queue(centre: Centre) -> str:
    number = centre.client()
    inside = centre.calls(number, "30quiet")
    gevent.sleep(1.5)
    centre.presses(inside, "1")
    centre.presses(inside, "1", asked=1)
    row = centre.row(number, within=15, reason="requested")
    return expect(row, reason="requested", queue="quiet@default", timewait=(1, 2))


def another_number(centre: Centre) -> str:
    number, target = centre.client(), centre.client()
    inside = centre.calls(number, "3600")
    centre.presses(inside, "2", asked=1)
    centre.presses(inside, f"{target[2:]}#", asked=2)
    return expect(
        centre.row(target, within=20), reason="requested", extra={"called_from": number}, closed_as=None
    )


def another_number_that_is_refused(centre: Centre) -> str:
    number = centre.client()
    inside = centre.calls(number, "3600")
    centre.presses(inside, "2", asked=1)
    centre.presses(inside, "8765551234#", asked=2)
    row = centre.row("8765551234", within=20, state="closed")
    return expect(row, reason="requested", closed_as="blocked")


def hostile(centre: Centre) -> str:
    """INVITEs written by hand: no phone would send them."""
    before = {row["id"] for row in centre.rows()}
    for value in HOSTILE.values():
        invite(centre.switch.sip, "30quiet", value)
    gevent.sleep(1.0)
    rows = [row for row in centre.rows() if row["id"] not in before]
    centre.until(
        lambda: len(new(centre, before)) >= len(HOSTILE),
        15,
        "their rows",
        lambda: str(len(new(centre, before))),
    )
    rows = new(centre, before)
    called = [row["phone"] for row in rows if row["closed_as"] != "blocked"]
    assert not called, f"not blocked: {called}"
    return f"{len(rows)} rows, all blocked"


def new(centre: Centre, before: set[int]) -> list[dict[str, object]]:
    return [row for row in centre.rows() if row["id"] not in before]


def invite(port: int, to: str, user: str) -> None:
    """One call with that From user: INVITE, ACK, a moment, BYE."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip:
        sip.bind(("127.0.0.1", 0))
        sip.settimeout(5.0)
        own, call, tag = sip.getsockname()[1], uuid.uuid4().hex, uuid.uuid4().hex[:8]
        sdp = (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {own + 2 if own < 65000 else 40000} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )

        def send(method: str, number: int, to_tag: str = "", body: str = "") -> None:
            head = (
                f"{method} sip:{to}@127.0.0.1:{port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK{call[:8]}{number}{method}\r\n"
                f'Max-Forwards: 70\r\nFrom: "{user[:60]}" <sip:{user}@127.0.0.1>;tag={tag}\r\n'
                f"To: <sip:{to}@127.0.0.1>{to_tag}\r\n"
                f"Call-ID: {call}\r\nCSeq: {number} {method}\r\nContact: <sip:x@127.0.0.1:{own}>\r\n"
                + ("Content-Type: application/sdp\r\n" if body else "")
                + f"Content-Length: {len(body)}\r\n\r\n{body}"
            )
            sip.sendto(head.encode("utf-8", "surrogateescape"), ("127.0.0.1", port))

        send("INVITE", 1, body=sdp)
        to_tag = ""
        while True:
            answer = sip.recv(65535).decode("utf-8", "replace")
            if (status := int(answer.split(" ")[1])) >= 200:
                found = re.search(r"^To:.*?(;tag=[^\r\n;]+)", answer, re.M | re.I)
                to_tag = found[1] if found else ""
                send("ACK", 1, to_tag)
                break
        if status == 200:
            gevent.sleep(0.3)
            send("BYE", 2, to_tag)


PLAYS = [
    Play("hook: a phone is busy", missed_and_listened),
    Play("hook: asked in the queue to be called back", asked_in_the_queue),
    Play("hook: asked to be called at another number", another_number),
    Play("hook: another number that a gate refuses", another_number_that_is_refused),
    Play(f"hostile From: {', '.join(HOSTILE)}", hostile),
]
