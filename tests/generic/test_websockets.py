import json
from datetime import date
from decimal import Decimal

import pytest
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cache import SessionStore
from django.http import HttpRequest
from django.test import override_settings

from fastchannels.channel import Group
from fastchannels.exceptions import DenyConnection, SendNotAvailableOnDemultiplexer
from fastchannels.generic.websockets import (
    JsonWebsocketConsumer,
    WebsocketConsumer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
)
from tests.talk import REPLY, make_event, make_layer, make_message, sent


@pytest.fixture
def layer():
    return make_layer()


class Echo(WebsocketConsumer):
    groups = ["all"]

    def receive(self, text=None, bytes=None, **kwargs):
        self.send(text, bytes)


def members(layer, group):
    Group(group, channel_layer=layer).send({"ping": 1})
    return {"ping": 1} in sent(layer)


def test_the_default_accepts_and_joins(layer):
    Echo(make_message(layer, "websocket.connect"))
    assert sent(layer) == [{"accept": True}]
    assert members(layer, "all")
    Echo(make_message(layer, "websocket.disconnect"))
    assert not members(layer, "all")


def test_the_hooks_get_the_arguments_of_the_route(layer):
    calls = []

    class Hooks(WebsocketConsumer):
        def connection_groups(self, room):
            return [room]

        def connect(self, message, room):
            calls.append(("connect", self.path, room, members(layer, room)))

        def receive(self, text=None, bytes=None, room=None):
            calls.append(("receive", text, bytes, room))

        def disconnect(self, message, room):
            calls.append(("disconnect", room, members(layer, room)))

    for channel, content in [
        ("websocket.connect", {"path": "/x"}),
        ("websocket.receive", {"text": "hi"}),
        ("websocket.disconnect", {}),
    ]:
        Hooks(make_message(layer, channel, **content), room="red")
    assert calls == [
        ("connect", "/x", "red", True),
        ("receive", "hi", None, "red"),
        ("disconnect", "red", False),
    ]


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        ({"text": "a"}, {"text": "a"}),
        ({"bytes": b"a"}, {"bytes": b"a"}),
        ({"text": None, "bytes": b"a"}, {"bytes": b"a"}),
        ({"text": "a", "bytes": None}, {"text": "a"}),
        ({"text": ""}, {"text": ""}),
        ({"bytes": b""}, {"bytes": b""}),
    ],
)
def test_frames_come_and_go_also_empty_ones(layer, content, reply):
    Echo(make_message(layer, **content))
    assert sent(layer) == [reply]


def test_send_needs_data_and_may_close(layer):
    echo = Echo(make_message(layer, text="x"))
    sent(layer)
    echo.send(text="bye", close=4000)
    echo.close()
    echo.close(4001)
    assert sent(layer) == [{"text": "bye", "close": 4000}, {"close": True}, {"close": 4001}]
    with pytest.raises(ValueError, match="text or bytes"):
        echo.send(close=True)


def test_group_send_uses_the_default_layer():
    from fastchannels.asgi import channel_layers

    default = channel_layers["default"]
    default.group_add("news", REPLY)
    Echo.group_send("news", bytes=b"x", close=True)
    JsonWebsocketConsumer.group_send("news", {"a": 1})
    assert sent(default) == [{"bytes": b"x", "close": True}, {"text": '{"a": 1}'}]
    default.flush()


def test_a_connect_that_raises_leaves_the_groups(layer):
    class Picky(Echo):
        def connect(self, message, **kwargs):
            assert members(layer, "all")
            raise DenyConnection

    with pytest.raises(DenyConnection):
        Picky(make_message(layer, "websocket.connect"))
    assert not members(layer, "all")


def test_strict_ordering_gives_the_channel_session(layer):
    class Strict(WebsocketConsumer):
        strict_ordering = True

        def receive(self, text=None, bytes=None, **kwargs):
            self.message.channel_session["n"] = 1

    message = make_event(layer, text="x")
    Strict(message)
    assert message.session_changed
    with pytest.raises(ValueError, match="no order"):
        Strict(make_message(layer, text="x"))


def test_slight_ordering_warns(layer):
    with pytest.warns(DeprecationWarning, match="slight_ordering is not needed"):
        consumer = type("Slight", (Echo,), {"slight_ordering": True})
    consumer(make_message(layer, text="x"))
    assert sent(layer) == [{"text": "x"}]
    with override_settings(FASTCHANNELS_STRICT_1X=True), pytest.raises(ValueError, match="not needed"):
        type("Slight", (Echo,), {"slight_ordering": True})


def test_a_message_from_no_socket(layer):
    with pytest.raises(ValueError, match="no reply channel"):
        Echo(make_message(layer, text="x", reply_channel=None))


class JsonEcho(JsonWebsocketConsumer):
    def receive(self, content, **kwargs):
        self.send({"got": content, **kwargs})


def test_json_frames(layer):
    JsonEcho(make_message(layer, text='{"a": [1]}'), room="red")
    assert sent(layer) == [{"text": '{"got": {"a": [1]}, "room": "red"}'}]


@pytest.mark.parametrize("content", [{"bytes": b"{}"}, {"text": None, "bytes": b"{}"}, {"text": "{"}])
def test_frames_that_are_not_json(layer, content):
    with pytest.raises(ValueError, match=r"binary|Expecting"):
        JsonEcho(make_message(layer, **content))


def test_json_may_be_spoken_otherwise(layer):
    class Loud(JsonEcho):
        @classmethod
        def decode_json(cls, text):
            return text.upper()

        @classmethod
        def encode_json(cls, content):
            return f"<{content['got']}>"

    Loud(make_message(layer, text="x"))
    assert sent(layer) == [{"text": "<X>"}]


class TestUsers:
    @pytest.fixture
    def cookie(self, database):
        request = HttpRequest()
        request.session = SessionStore()
        login(request, User.objects.create_user("ada"), "django.contrib.auth.backends.ModelBackend")
        request.session.save()
        return [[b"cookie", f"{settings.SESSION_COOKIE_NAME}={request.session.session_key}".encode()]]

    @pytest.mark.parametrize("switch", ["http_user", "http_user_and_session"])
    def test_the_user_of_the_page_is_known_at_every_event(self, layer, cookie, switch):
        seen = []

        class Who(WebsocketConsumer):
            def connect(self, message):
                seen.append(message.user.username)

            def receive(self, text=None, bytes=None):
                seen.append((self.message.user.username, hasattr(self.message, "http_session")))

        who = type("Who", (Who,), {switch: True})
        first = make_event(layer, "websocket.connect", 0, headers=cookie)
        who(first)
        who(make_event(layer, "websocket.receive", 1, session=first.session_payload, text=""))
        assert seen == ["ada", ("ada", switch == "http_user_and_session")]


class TestDemultiplexer:
    @pytest.fixture
    def calls(self):
        return []

    @pytest.fixture
    def demultiplexer(self, calls):
        class Inner(JsonWebsocketConsumer):
            def connect(self, message, multiplexer, **kwargs):
                calls.append(("connect", multiplexer.stream, kwargs))

            def receive(self, content, multiplexer, **kwargs):
                calls.append((content, multiplexer.stream, kwargs))
                multiplexer.send({"got": content})

            def disconnect(self, message, multiplexer, **kwargs):
                calls.append(("disconnect", multiplexer.stream, kwargs))

        def plain(message, multiplexer, **kwargs):
            calls.append((message.channel.name, multiplexer.stream, kwargs))

        class Streams(WebsocketDemultiplexer):
            consumers = {"inner": Inner, "plain": plain}

        return Streams

    def frame(self, layer, value):
        return make_event(layer, "websocket.receive", text=value if isinstance(value, str) else json.dumps(value))

    def test_connect_and_disconnect_go_to_all(self, layer, calls, demultiplexer):
        demultiplexer(make_event(layer, "websocket.connect", 0), room="red")
        demultiplexer(make_event(layer, "websocket.disconnect", 1), room="red")
        assert calls == [
            ("connect", "inner", {"room": "red"}),
            ("websocket.connect", "plain", {"room": "red"}),
            ("disconnect", "inner", {"room": "red"}),
            ("websocket.disconnect", "plain", {"room": "red"}),
        ]
        assert sent(layer) == [{"accept": True}]

    def test_a_frame_goes_to_its_stream_and_the_answer_comes_on_it(self, layer, calls, demultiplexer):
        demultiplexer(self.frame(layer, {"stream": "inner", "payload": {"n": 1}}), room="red")
        assert calls == [({"n": 1}, "inner", {"room": "red"})]
        (answer,) = sent(layer)
        assert json.loads(answer["text"]) == {"stream": "inner", "payload": {"got": {"n": 1}}}

    @pytest.mark.parametrize(
        ("value", "match"),
        [
            ([1], "multiplexed frame"),
            ({"stream": "inner"}, "multiplexed frame"),
            ({"payload": {}}, "multiplexed frame"),
            ({"stream": "no", "payload": {}}, "'no': there is inner, plain"),
            ({"stream": ["no"], "payload": {}}, "no consumer"),
            ({"stream": "inner", "payload": 3}, "not a dict but int"),
            ("{", "Expecting"),
        ],
    )
    def test_bad_frames(self, layer, demultiplexer, value, match):
        with pytest.raises(ValueError, match=match):
            demultiplexer(self.frame(layer, value))

    def test_send_is_closed_while_dispatched_and_open_elsewhere(self, layer):
        class Sender(JsonWebsocketConsumer):
            def receive(self, content, **kwargs):
                self.send({"n": 1})

        class Streams(WebsocketDemultiplexer):
            consumers = {"s": Sender}

        with pytest.raises(SendNotAvailableOnDemultiplexer, match=r"multiplexer\.send"):
            Streams(self.frame(layer, {"stream": "s", "payload": {}}))
        assert sent(layer) == []
        Sender(self.frame(layer, {}))
        assert sent(layer) == [{"text": '{"n": 1}'}]

    def test_its_own_sends_are_closed(self, layer):
        class Sends(WebsocketDemultiplexer):
            def connect(self, message, **kwargs):
                self.send({})

        with pytest.raises(SendNotAvailableOnDemultiplexer):
            Sends(make_event(layer, "websocket.connect", 0))
        with pytest.raises(SendNotAvailableOnDemultiplexer):
            WebsocketDemultiplexer.group_send("group", "stream", {})

    def test_the_multiplexer_writes_what_django_writes(self):
        message = WebsocketMultiplexer.encode("s", {"day": date(2016, 5, 1), "price": Decimal("1.50")})
        assert json.loads(message["text"]) == {"stream": "s", "payload": {"day": "2016-05-01", "price": "1.50"}}

    def test_group_send(self, layer, monkeypatch):
        monkeypatch.setattr("fastchannels.asgi.channel_layers._layers", {"default": layer})
        Group("all", channel_layer=layer).add(REPLY)
        WebsocketMultiplexer.group_send("all", "s", {"n": 1}, close=True)
        assert sent(layer) == [{"text": '{"stream": "s", "payload": {"n": 1}}', "close": True}]
