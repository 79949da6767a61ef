from __future__ import annotations

import ssl
from typing import Any

import pytest

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis.address import Address, parse_hosts


@pytest.mark.parametrize(
    ("hosts", "wanted"),
    [
        (None, Address()),
        ([], Address()),
        (["redis://example.org"], Address("example.org")),
        (["redis://:pw@example.org:7/3"], Address("example.org", 7, db=3, password="pw")),
        (["redis://me:p%40w@[::1]:7"], Address("::1", 7, username="me", password="p@w")),
        (["unix:///run/redis.sock?db=2"], Address(path="/run/redis.sock", db=2)),
        ([("example.org", 7)], Address("example.org", 7)),
        ([["example.org", "7"]], Address("example.org", 7)),
        ([{"host": "h", "port": 7, "username": "u", "password": "p", "db": 1}], Address("h", 7, None, 1, "u", "p")),
        ([{"address": "redis://h:7", "db": 4}], Address("h", 7, db=4)),
        ([{"path": "/s"}], Address(path="/s")),
    ],
)
def test_forms(hosts: Any, wanted: Address) -> None:
    assert parse_hosts(hosts) == [wanted]


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ("redis://h", "a list"),
        ({"host": "h"}, "a list"),
        ([{"sentinels": [("a", 1)], "master_name": "m"}], "takes one host"),
        (["http://h"], "cannot be used"),
        (["redis://h:port"], "hosts"),
        ([5], "type int"),
        ([("h", 0x10000)], "port"),
        ([("h", "x")], "hosts"),
        ([{"hots": "h"}], "'hots'.*'host'"),
        (["redis://h?socket_timeout=1"], "socket_timeout"),
        ([{"host": "h", "ssl": True, "ssl_cert_reqs": "maybe"}], "ssl_cert_reqs"),
        ([{"host": "h", "ssl": True, "ssl_ca_certs": "/nowhere.pem"}], "hosts"),
    ],
)
def test_what_cannot_be(hosts: Any, text: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=text):
        parse_hosts(hosts)


def test_a_bad_url_does_not_show_its_password() -> None:
    with pytest.raises(InvalidChannelLayerError) as caught:
        parse_hosts(["http://:hunter2@h"])
    assert "hunter2" not in str(caught.value)


def test_tls() -> None:
    tls = parse_hosts(["rediss://h"])[0].tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    tls = parse_hosts([{"address": "rediss://h", "ssl_cert_reqs": "none"}])[0].tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_NONE, False)
    assert parse_hosts(["redis://h"])[0].tls is None


def test_passwords_are_masked() -> None:
    address = Address("h", 7, None, 2, "me", "hunter2")
    assert str(address) == "redis://me:***@h:7/2"
    assert "hunter2" not in repr(address)
    assert str(Address(path="/s", password="hunter2")) == "unix://:***@/s"
    assert str(Address("::1", tls=ssl.create_default_context())) == "rediss://[::1]:6379"


def test_greeting() -> None:
    assert Address().greeting() == []
    assert Address(password="p", db=3).greeting() == [("AUTH", "p"), ("SELECT", 3)]
    assert Address(username="u", password="p").greeting() == [("AUTH", "u", "p")]
