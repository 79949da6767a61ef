from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import redis.credentials

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis.address import Address, parse_host


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("redis://example.org", Address("example.org")),
        ("redis://:pw@example.org:7/3", Address("example.org", 7, db=3, password="pw")),
        ("redis://me:p%40w@[::1]:7", Address("::1", 7, username="me", password="p@w")),
        ("unix:///run/redis.sock?db=2", Address(path="/run/redis.sock", db=2)),
        (("example.org", 7), Address("example.org", 7)),
        (["example.org", "7"], Address("example.org", 7)),
        ({"host": "h", "port": 7, "username": "u", "password": "p", "db": 1}, Address("h", 7, None, 1, "u", "p")),
        ({"address": "redis://h:7", "db": 4}, Address("h", 7, db=4)),
        ({"path": "/s"}, Address(path="/s")),
        ({"unix_socket_path": "/s"}, Address(path="/s")),
        ("redis://h?socket_timeout=1&health_check_interval=5", Address("h")),
        (
            {"host": "h", "retry_on_timeout": True, "max_connections": 3, "client_name": "c"},
            Address("h", client_name="c"),
        ),
    ],
)
def test_forms(entry: Any, wanted: Address) -> None:
    assert parse_host(entry) == wanted


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("http://h", "cannot be used"),
        ("redis://h:port", "hosts"),
        (5, "type int"),
        (("h", 0x10000), "port"),
        (("h", "x"), "hosts"),
        ({"hots": "h"}, "'hots'.*'host'"),
        ("redis://h?socket_timout=1", "socket_timout"),
        ({"host": "h", "decode_responses": True}, "decode_responses"),
        ({"host": "h", "credential_provider": "token"}, "get_credentials"),
        ({"host": "h", "ssl": True, "ssl_cert_reqs": "maybe"}, "ssl_cert_reqs"),
        ({"host": "h", "ssl": True, "ssl_ca_certs": "/nowhere.pem"}, "hosts"),
    ],
)
def test_what_cannot_be(entry: Any, text: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=text):
        parse_host(entry)


def test_a_bad_url_does_not_show_its_password() -> None:
    with pytest.raises(InvalidChannelLayerError) as caught:
        parse_host("http://:hunter2@h")
    assert "hunter2" not in str(caught.value)


def test_tls() -> None:
    tls = parse_host("rediss://h").tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    tls = parse_host({"address": "rediss://h", "ssl_cert_reqs": "none"}).tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_NONE, False)
    assert parse_host("redis://h").tls is None


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


def test_greeting_asks_the_provider_each_time() -> None:
    class Provider:
        turn = 0

        def get_credentials(self) -> tuple[str, str]:
            self.turn += 1
            return "me", f"token{self.turn}"

    address = parse_host({"host": "h", "credential_provider": Provider(), "client_name": "web"})
    assert address.greeting() == [("AUTH", "me", "token1"), ("CLIENT", "SETNAME", "web")]
    assert address.greeting()[0] == ("AUTH", "me", "token2")


async def test_provider_on_an_event_loop() -> None:
    class Plain(redis.credentials.CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return ("thread",)

    class Own(Plain):
        async def get_credentials_async(self) -> tuple[str, str]:  # type: ignore[override]
            return "me", "loop"

    class Broken(Plain):
        async def get_credentials_async(self) -> tuple[str]:
            raise KeyError("token")

    def address_of(provider: object) -> Address:
        return parse_host({"host": "h", "credential_provider": provider, "db": 3})

    assert await address_of(Plain()).greeting_on_loop() == [("AUTH", "thread"), ("SELECT", 3)]
    assert await address_of(Own()).greeting_on_loop() == [("AUTH", "me", "loop"), ("SELECT", 3)]
    with pytest.raises(ConnectionError, match="the credential_provider failed: KeyError"):
        await address_of(Broken()).greeting_on_loop()
    assert await Address(password="p").greeting_on_loop() == [("AUTH", "p")]


def test_provider_that_fails() -> None:
    class Provider:
        def get_credentials(self) -> tuple[str, str]:
            raise RuntimeError("no token")

    with pytest.raises(ConnectionError, match="credential_provider failed: RuntimeError: no token"):
        parse_host({"host": "h", "credential_provider": Provider()}).greeting()
