import pytest
from django.test import override_settings

from fastchannels.channel import Group
from fastchannels.exceptions import DenyConnection
from fastchannels.generic.websockets import JsonWebsocketConsumer, WebsocketConsumer
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
