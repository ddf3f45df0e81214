"""What people write into the section [web], and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from freeswitch_callback.config import Web, parse
from freeswitch_callback.errors import ConfigurationError

SMALL = '[[freeswitch]]\npassword = "s3cret"\n'


def web(text: str) -> Web | None:
    return parse(SMALL + text, {}).web


def test_there_is_none_unless_it_is_asked_for():
    assert web("") is None
    assert web("[web]\nenabled = false\n") is None
    assert web('[web]\nenabled = false\nlisten = "0.0.0.0:80"\n') is None


def test_it_listens_on_loopback_unless_told_otherwise():
    section = web("[web]\n")
    assert section is not None
    assert section.listen == ("127.0.0.1", 8088)
    assert (section.session_lifetime, section.session_idle) == (43200.0, 3600.0)
    assert (section.tls_certificate, section.trusted_proxies, section.open_metrics) == (None, (), False)


@pytest.mark.parametrize(
    ("written", "listens"),
    [
        ("127.0.0.2:80", ("127.0.0.2", 80)),
        ("[::1]:8088", ("::1", 8088)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_ways_to_write_loopback(written: str, listens: tuple[str, int]):
    section = web(f'[web]\nlisten = "{written}"\n')
    assert section is not None
    assert section.listen == listens


def test_who_listens_beyond_loopback_names_a_certificate_or_the_proxy(tmp_path: Path):
    certificate = tmp_path / "cert.pem"
    certificate.touch()
    tls = f'tls_certificate = "{certificate}"\ntls_key = "{certificate}"\n'
    for guarded in (tls, 'trusted_proxies = ["10.0.0.7", "10.1.0.0/16"]\n'):
        section = web(f'[web]\nlisten = "0.0.0.0:8088"\n{guarded}')
        assert section is not None
        assert section.listen == ("0.0.0.0", 8088)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "callback.example", "[::ffff:192.0.2.1]"])
def test_beyond_loopback_nothing_goes_in_clear(host: str):
    with pytest.raises(ConfigurationError, match=r"web.listen: .* name web.tls_certificate and web.tls_key"):
        web(f'[web]\nlisten = "{host}:8088"\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lisen = 1\n", "web.lisen: no such key; did you mean web.listen?"),
        ('listen = "8088"\n', 'web.listen must be an address and a port like "127.0.0.1:8088"'),
        ('listen = "127.0.0.1:70000"\n', "web.listen must be an address and a port"),
        ('listen = "a b:1"\n', "web.listen must be an address and a port"),
        ("listen = 8088\n", "web.listen must be a text, not 8088"),
        ('enabled = "yes"\n', "web.enabled must be true or false, not 'yes'"),
        ('tls_key = "/k"\n', "web.tls_certificate is missing: a certificate and its key belong together"),
        (
            'tls_key = "/no/such"\ntls_certificate = "/no/such"\n',
            "web.tls_certificate: '/no/such' cannot be read",
        ),
        ('trusted_proxies = ["proxy"]\n', "web.trusted_proxies must be an address or a network like"),
        ('session_idle = "0s"\n', "web.session_idle must be longer than 0 s"),
        ('agents = ["Anna"]\n', 'web.agents must be like { "1001@default" = "Anna" }'),
        ('links = { CRM = "https://crm/{no}" }\n', 'web.links."CRM" has {no}, which no call has; there are'),
        ('links = { CRM = "javascript:alert({number})" }\n', "web.links must be like"),
        ('links = { CRM = "https://{number}/" }\n', "web.links must be like"),
        ('links = { CRM = "https://crm.example@{number}/" }\n', "web.links must be like"),
        ('links = { CRM = "https://crm.example{number}/" }\n', "web.links must be like"),
        ('links = { " " = "https://crm.example/" }\n', "web.links must name each link"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_write(text: str, said: str):
    with pytest.raises(ConfigurationError) as refused:
        web("[web]\n" + text)
    assert str(refused.value).startswith(said)


def test_links_take_what_a_call_has_and_the_variables_that_are_kept():
    section = web(
        '[capture]\nvariables = ["crm_id"]\n[web]\n'
        'links = { CRM = "https://crm.example/c/{crm_id}?phone={number}", Wiki = "http://wiki:80" }\n'
        'agents = { "1001@default" = "Anna" }\nqueues = { "support@default" = "Support" }\n'
    )
    assert section is not None
    assert section.links["CRM"] == "https://crm.example/c/{crm_id}?phone={number}"
    assert (section.agents, section.queues) == ({"1001@default": "Anna"}, {"support@default": "Support"})


SECRET = "0123456789abcdef"
HOOK = f'[[webhook]]\nname = "crm"\nurl = "https://crm.example/hook"\nsecret = "{SECRET}"\n'


def test_webhooks_are_told_everything_unless_told_otherwise(tmp_path: Path):
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}{SECRET}\n")
    [first, second] = parse(
        SMALL + HOOK + '[[webhook]]\nname = "desk"\nurl = "http://10.0.0.7:8080"\nprivate = true\n'
        f'secret_file = "{path}"\nevents = ["closed"]\n',
        {},
    ).webhooks
    assert (first.events, first.private, first.secret) == (("recorded", "reached", "closed"), False, SECRET)
    assert (second.events, second.private, second.secret) == (("closed",), True, SECRET * 2)
    assert parse(SMALL, {}).webhooks == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HOOK + HOOK, "webhook[2].name: 'crm' is there twice"),
        (HOOK.replace("https", "http"), "webhook[1].url must begin with https://"),
        (HOOK.replace("https", "ftp"), "webhook[1].url must be an address like"),
        (HOOK.replace("crm.example", "user:pw@crm.example"), "webhook[1].url must be an address like"),
        (HOOK.replace(SECRET, "short"), "webhook[1].secret is missing or too short: 16 characters"),
        (HOOK.replace("name", "nane"), "webhook[1].nane: no such key; did you mean webhook[1].name?"),
        (HOOK + "events = []\n", "webhook[1].events is missing"),
        (HOOK + 'events = ["opened"]\n', "webhook[1].events must be of recorded, reached, closed"),
        (HOOK + 'secret_file = "/no/such"\n', "webhook[1].secret_file cannot be read"),
        ("webhook = 1\n", "webhook must be sections, written [[webhook]]"),
    ],
)
def test_what_is_wrong_with_a_webhook_is_said(text: str, said: str):
    with pytest.raises(ConfigurationError) as refused:
        parse((text + SMALL) if text.startswith("webhook =") else SMALL + text, {})
    assert str(refused.value).startswith(said)
