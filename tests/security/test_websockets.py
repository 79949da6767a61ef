import asyncio
import logging

import pytest
from django.test import override_settings

from fastchannels.exceptions import DenyConnection
from fastchannels.routing import connect_consumer, route
from fastchannels.security.websockets import (
    BaseOriginValidator,
    allowed_hosts_only,
    host_allowed,
    refused_origin,
)
from tests.talk import ack, event_content, handle, make_event, make_layer, make_message, sent

LAYER = make_layer([route("websocket.connect", connect_consumer)])
HOSTS = override_settings(ALLOWED_HOSTS=["chat.example.org", ".example.net"])


@pytest.fixture
def hosts():
    with HOSTS:
        yield


def connect(*origins):
    return make_event(LAYER, "websocket.connect", 0, headers=[[b"host", b"h"], *([b"origin", o] for o in origins)])


@HOSTS
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://chat.example.org", True),
        ("http://chat.example.org:8000", True),
        ("https://CHAT.example.org", True),
        ("https://a.b.example.net", True),
        ("https://example.org", False),
        ("https://chat.example.org.evil.test", False),
        ("https://evil.test/#chat.example.org", False),
        ("null", False),
        ("chat.example.org", False),
        ("http://[::1", False),
    ],
)
def test_hosts(origin, allowed):
    assert host_allowed(origin) is allowed


@override_settings(ALLOWED_HOSTS=[], DEBUG=True)
@pytest.mark.parametrize("host", ["localhost", "app.localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_a_developer_needs_no_allowed_hosts(host):
    assert host_allowed(f"http://{host}")
    assert not host_allowed("http://example.org")


@override_settings(ALLOWED_HOSTS=[], DEBUG=False)
def test_nothing_is_allowed_without_allowed_hosts():
    assert not host_allowed("http://localhost")


@override_settings(ALLOWED_HOSTS=["::1"])
def test_ipv6_without_brackets_in_the_setting():
    assert host_allowed("http://[::1]:8000")


@pytest.mark.usefixtures("hosts")
class TestDecorator:
    def test_lets_an_allowed_origin_through(self):
        assert allowed_hosts_only(lambda message, room: room)(connect(b"https://chat.example.org"), room="red") == "red"

    @pytest.mark.parametrize("origins", [(), (b"",), (b"https://evil.test",), ("https://\xe9.org".encode(),)])
    def test_denies_the_others(self, origins):
        with pytest.raises(DenyConnection):
            allowed_hosts_only(lambda message: None)(connect(*origins))

    def test_is_for_methods_and_async_functions_too(self):
        class Consumer:
            @allowed_hosts_only
            async def connect(self, message):
                return "in"

        assert asyncio.run(Consumer().connect(connect(b"https://chat.example.org"))) == "in"
        with pytest.raises(DenyConnection):
            asyncio.run(Consumer().connect(connect(b"https://evil.test")))

    def test_needs_headers(self):
        with pytest.raises(KeyError):
            allowed_hosts_only(lambda message: None)(make_message(LAYER))

    def test_a_subclass_decides(self):
        class Only(BaseOriginValidator):
            def validate_origin(self, message, origin):
                return origin == "app://phone"

        class Consumer:
            @Only
            def connect(self, message):
                return self

        consumer = Consumer()
        assert Only(lambda message: "in")(connect(b"app://phone")) == "in"
        assert consumer.connect(connect(b"app://phone")) is consumer
        with pytest.raises(DenyConnection):
            Only(lambda message: "in")(connect(b"https://chat.example.org"))


@pytest.mark.usefixtures("hosts")
class TestWorker:
    """The worker checks by itself, before the consumer of a plain route."""

    def open(self, *headers):
        content = event_content(0, headers=list(headers))
        handle(LAYER, "websocket.connect", content)
        (answer,) = sent(LAYER)
        return answer

    def test_refuses_another_site_and_says_what_to_change(self, caplog):
        with caplog.at_level(logging.WARNING):
            assert self.open([b"origin", b"https://evil.test"]) == ack(0, {"accept": False})
        assert "evil.test" in caplog.text
        assert "ALLOWED_HOSTS" in caplog.text
        assert "FASTCHANNELS_ORIGIN_CHECK" in caplog.text

    def test_refuses_two_origins(self):
        origin = [b"origin", b"https://chat.example.org"]
        assert self.open(origin, origin) == ack(0, {"accept": False})

    def test_lets_this_site_and_clients_that_are_no_browsers_in(self):
        assert self.open([b"origin", b"https://chat.example.org"]) == ack(0, {"accept": True})
        assert self.open() == ack(0, {"accept": True})

    def test_can_be_told_not_to(self):
        with override_settings(FASTCHANNELS_ORIGIN_CHECK=False):
            assert self.open([b"origin", b"https://evil.test"]) == ack(0, {"accept": True})

    def test_reason_of_an_origin_that_is_not_ascii(self):
        assert "\\xe9" in refused_origin(connect(b"https://\xe9.org"))
