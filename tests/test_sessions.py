import asyncio
import warnings
from importlib import import_module

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from fastchannels.exceptions import ConsumeLater, InvalidMessageError, MessageTooLarge
from fastchannels.layers.codec import Codec, make_codec
from fastchannels.message import Message
from fastchannels.sessions import (
    ChannelSession,
    channel_and_http_session,
    channel_session,
    check_settings,
    enforce_ordering,
    http_session,
    requeue_messages,
    session_for_reply_channel,
    wait_channel_name,
)
from tests.talk import make_event, make_layer, make_message, sent

LAYER = make_layer()
SessionStore = import_module(settings.SESSION_ENGINE).SessionStore


def event(**session):
    return make_event(LAYER, session=Codec().encode(session) if session else None)


def saved(message):
    """What the worker will send back, or None."""
    return Codec().decode(message.session_payload) if message.session_changed else None


def stored_session(**values):
    session = SessionStore()
    session.update(values)
    session.save()
    return session


def with_cookie(session, channel="websocket.connect", **content):
    cookie = f"{settings.SESSION_COOKIE_NAME}={session.session_key}".encode()
    return make_event(LAYER, channel, headers=[[b"cookie", cookie]], **content)


class TestChannelSession:
    def test_is_carried_with_the_event(self):
        @channel_session
        def consumer(message):
            assert message.channel_session["n"] == 1
            message.channel_session["raw"] = b"\xff"

        message = event(n=1)
        consumer(message)
        assert saved(message) == {"n": 1, "raw": b"\xff"}

    def test_is_not_encrypted_twice(self, monkeypatch):
        @channel_session
        def consumer(message):
            message.channel_session["n"] += 1

        monkeypatch.setattr(LAYER.layer, "codec", make_codec(serializer_format="json", symmetric_encryption_keys=["k"]))
        message = event(n=1)
        consumer(message)
        assert saved(message) == {"n": 2}

    def test_is_not_sent_back_unchanged(self):
        @channel_session
        def consumer(message):
            message.channel_session.get("n")

        message = event(n=1)
        consumer(message)
        assert saved(message) is None

    def test_is_saved_when_the_consumer_raised(self):
        @channel_session
        def consumer(message):
            message.channel_session["n"] = 2
            raise LookupError

        message = event()
        with pytest.raises(LookupError):
            consumer(message)
        assert saved(message) == {"n": 2}

    def test_works_on_methods_with_arguments(self):
        class Consumer:
            @channel_session
            def method(self, message, room, size=0):
                message.channel_session["got"] = [room, size]
                return "result"

        message = event()
        assert Consumer().method(message, "red", size=3) == "result"
        assert saved(message) == {"got": ["red", 3]}

    def test_works_on_async_functions(self):
        @channel_session
        async def consumer(message):
            await asyncio.sleep(0)
            message.channel_session["n"] = 1

        message = event()
        asyncio.run(consumer(message))
        assert saved(message) == {"n": 1}

    def test_twice_is_one_session(self):
        @channel_session
        @channel_session
        def consumer(message):
            message.channel_session["n"] = 1

        message = event()
        consumer(message)
        assert saved(message) == {"n": 1}

    def test_needs_a_message(self):
        with pytest.raises(ValueError, match="without a Message"):
            channel_session(lambda *args: None)(1, 2, event())

    def test_needs_a_reply_channel(self):
        with pytest.raises(ValueError, match="reply channel"):
            channel_session(lambda message: None)(Message({}, "news", LAYER))

    def test_needs_an_event_of_a_socket(self):
        with pytest.raises(ValueError, match="carried with the events of a socket"):
            channel_session(lambda message: None)(make_message(LAYER, "news"))

    def test_keeps_the_name_of_the_consumer(self):
        assert channel_session(stored_session).__name__ == "stored_session"

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (
                lambda session: session.update({"rooms": [{"when": object()}]}),
                r"channel_session\['rooms'\]\[0\]\['when'\]",
            ),
            (lambda session: session.update({"big": 2**70}), "channel_session.*big"),
            (lambda session: session.update({1: 2}), "channel_session"),
        ],
    )
    def test_what_cannot_be_carried_is_named(self, change, text):
        with pytest.raises((InvalidMessageError, OverflowError), match=f"the session cannot be carried: .*{text}"):
            channel_session(lambda message: change(message.channel_session))(event())

    def test_a_session_that_is_too_large(self):
        layer = make_layer(max_message_size=100)
        with pytest.raises(MessageTooLarge, match=r"session cannot be carried.*max_message_size"):
            channel_session(lambda message: message.channel_session.update({"x": "x" * 200}))(make_event(layer))


SOCKET = "websocket.send.abc!xyz"


def socket_event(channel, number, **content):
    return make_event(LAYER, channel, number, reply_channel=SOCKET, **content)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("engine", ["cache", "db", "cached_db", "file"])
class TestAnEngineOfDjango:
    @pytest.fixture(autouse=True)
    def chosen(self, engine, tmp_path):
        with override_settings(
            CHANNEL_SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}", SESSION_FILE_PATH=str(tmp_path)
        ):
            check_settings()
            yield
            session_for_reply_channel(SOCKET).flush()

    def stored(self):
        return dict(session_for_reply_channel(SOCKET).items())

    def open(self, **values):
        message = socket_event("websocket.connect", 0)
        channel_session(lambda message: message.channel_session.update(values))(message)
        assert message.session_payload is None

    def test_keeps_the_session_where_others_can_read_it(self):
        self.open(n=1)
        assert self.stored() == {"n": 1}
        seen = []
        channel_session(lambda message: seen.append(message.channel_session["n"]))(socket_event("websocket.receive", 1))
        assert seen == [1]

    def test_for_async_consumers(self):
        self.open(n=1)

        @channel_session
        async def consumer(message):
            message.channel_session["n"] += 1

        asyncio.run(consumer(socket_event("websocket.receive", 1)))
        assert self.stored() == {"n": 2}

    def test_two_consumers_keep_each_other_s_keys(self):
        self.open(a=1, b=1, c=1)

        @channel_session
        def outer(message):
            channel_session(lambda other: other.channel_session.update({"a": 2}))(socket_event("websocket.receive", 2))
            message.channel_session["b"] = 2
            del message.channel_session["c"]

        outer(socket_event("websocket.receive", 1))
        assert self.stored() == {"a": 2, "b": 2}

    def test_is_saved_when_the_consumer_raised(self):
        self.open()

        @channel_session
        def consumer(message):
            message.channel_session["n"] = 1
            raise LookupError

        with pytest.raises(LookupError):
            consumer(socket_event("websocket.receive", 1))
        assert self.stored() == {"n": 1}

    def test_ends_with_the_socket_and_does_not_come_back(self):
        self.open(n=1)
        late = channel_session(lambda message: message.channel_session.update({"n": 2}))

        @channel_session
        def disconnect(message):
            assert message.channel_session["n"] == 1

        disconnect(socket_event("websocket.disconnect", 1))
        late(socket_event("websocket.receive", 2))
        assert self.stored() == {}

    def test_for_messages_that_are_no_events(self):
        message = make_message(LAYER, "jobs", reply_channel="results")
        channel_session(lambda message: message.channel_session.update({"n": 1}))(message)
        assert session_for_reply_channel("results")["n"] == 1
        session_for_reply_channel("results").flush()

    def test_a_lost_race_is_tried_again(self, monkeypatch):
        self.open()
        monkeypatch.setattr("fastchannels.sessions._stored", lambda session: False)
        with pytest.raises(ConsumeLater):
            channel_session(lambda message: None)(socket_event("websocket.connect", 0))


def test_the_key_of_a_session_is_that_of_channels_1():
    assert session_for_reply_channel("x!y").session_key == "chn02f5a7ab6fe57eeb1a4be0c6a1317"


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        ("django.contrib.sessions.backends.signed_cookies", ValueError),
        ("django.contrib.sessions.backends.base", ImproperlyConfigured),
        ("no.such.module", ImproperlyConfigured),
    ],
)
def test_engines_that_cannot_keep_a_session(engine, error):
    with override_settings(CHANNEL_SESSION_ENGINE=engine), pytest.raises(error, match="CHANNEL_SESSION_ENGINE"):
        check_settings()


def test_carrying_a_session_asks_no_database(database):
    consumer = channel_session(lambda message: message.channel_session.update({"n": 1}))
    with CaptureQueriesContext(database) as queries:
        for number in range(100):
            consumer(make_event(LAYER, event=number))
    assert len(queries) == 0


def test_messages_that_wait_as_in_channels_1_can_be_requeued():
    layer = make_layer()
    name = wait_channel_name("x!y")
    assert name == "__wait__.x?y"
    layer.send(name, {"n": 1, "original_channel": "a"})
    layer.send(name, {"n": 2, "original_channel": "b"})
    requeue_messages(make_message(layer, reply_channel="x!y"))
    assert [sent(layer, "a"), sent(layer, "b"), sent(layer, name)] == [[{"n": 1}], [{"n": 2}], []]


class TestTheMethodsOfASession:
    @pytest.fixture
    def session(self):
        return ChannelSession(event(a=1, b=2))

    def test_reading_modifies_nothing(self, session):
        assert session["a"] == 1
        assert session.get("c", 3) == 3
        assert "b" in session
        assert session.has_key("b")
        assert (sorted(session.keys()), sorted(session.values())) == (["a", "b"], [1, 2])
        assert dict(session.items()) == {"a": 1, "b": 2}
        assert not session.is_empty()
        assert session.setdefault("a", 5) == 1
        assert session.pop("c", 4) == 4
        with pytest.raises(KeyError):
            session.pop("c")
        with pytest.raises(KeyError):
            del session["c"]
        assert not session.modified

    @pytest.mark.parametrize(
        ("change", "left"),
        [
            (lambda session: session.__setitem__("a", 3), {"a": 3, "b": 2}),
            (lambda session: session.__delitem__("a"), {"b": 2}),
            (lambda session: session.pop("a"), {"b": 2}),
            (lambda session: session.setdefault("c", 3), {"a": 1, "b": 2, "c": 3}),
            (lambda session: session.update({"b": 3}), {"a": 1, "b": 3}),
            (lambda session: session.clear(), {}),
            (lambda session: session.flush(), {}),
        ],
    )
    def test_changing_modifies(self, session, change, left):
        change(session)
        assert session.modified
        session.save()
        assert not session.modified
        assert saved(session._message) == left

    def test_a_change_inside_needs_the_flag(self):
        message = event(rooms=["a"])
        session = ChannelSession(message)
        session["rooms"].append("b")
        assert not session.modified
        session.modified = True
        session.save()
        assert saved(message) == {"rooms": ["a", "b"]}


class TestHttpSession:
    def test_is_found_by_the_cookie_and_saved(self):
        stored = stored_session(n=1)

        @http_session
        def consumer(message):
            message.http_session["n"] += 1
            raise LookupError

        with pytest.raises(LookupError):
            consumer(with_cookie(stored))
        assert SessionStore(stored.session_key)["n"] == 2

    def test_is_none_without_a_cookie(self):
        message = make_message(LAYER, "websocket.connect")
        assert http_session(lambda message: message.http_session)(message) is None

    def test_the_query_counts_only_when_the_setting_says_so(self):
        stored = stored_session(n=1)
        content = {"query_string": f"session_key={stored.session_key}".encode()}
        read = http_session(lambda message: message.http_session)
        assert read(make_message(LAYER, "websocket.connect", **content)) is None
        with override_settings(FASTCHANNELS_SESSION_KEY_IN_QUERY=True):
            assert read(make_message(LAYER, "websocket.connect", **content))["n"] == 1

    def test_the_body_is_left_for_the_view(self):
        layer = make_layer()
        layer.send("body?1", {"content": b"x"})
        http_session(lambda message: None)(make_message(layer, "http.request", method="POST", body_channel="body?1"))
        assert sent(layer, "body?1") == [{"content": b"x"}]

    def test_a_message_that_is_not_like_a_request(self):
        with pytest.raises(ValueError, match="cannot read the message on news as a request"):
            http_session(lambda message: None)(Message({}, "news", LAYER))

    def test_works_on_async_functions(self):
        stored = stored_session(n=1)

        @http_session
        async def consumer(message):
            message.http_session["n"] = 5

        asyncio.run(consumer(with_cookie(stored)))
        assert SessionStore(stored.session_key)["n"] == 5


class TestBothSessions:
    def test_the_key_is_kept_for_the_later_events(self):
        stored = stored_session(n=1)

        @channel_and_http_session
        def consumer(message):
            message.channel_session["seen"] = message.http_session["n"]
            message.http_session["n"] += 1

        first = with_cookie(stored)
        consumer(first)
        second = make_event(LAYER, session=first.session_payload)
        consumer(second)
        assert saved(second) == {settings.SESSION_COOKIE_NAME: stored.session_key, "seen": 2}
        assert SessionStore(stored.session_key)["n"] == 3

    def test_without_a_cookie(self):
        message = event()
        assert channel_and_http_session(lambda message: message.http_session)(message) is None
        assert saved(message) is None


class TestEnforceOrdering:
    @pytest.mark.parametrize("decorator", [enforce_ordering, enforce_ordering()])
    def test_gives_the_channel_session(self, decorator):
        message = event()
        decorator(lambda message: message.channel_session.update({"n": 1}))(message)
        assert saved(message) == {"n": 1}

    def test_needs_an_order(self):
        with pytest.raises(ValueError, match="no order"):
            enforce_ordering(lambda message: None)(make_message(LAYER))

    def test_slight_warns_and_is_an_error_in_strict_mode(self):
        with pytest.warns(DeprecationWarning, match="not needed"):
            enforce_ordering(slight=True)
        with override_settings(FASTCHANNELS_STRICT_1X=True), pytest.raises(ValueError, match="not needed"):
            enforce_ordering(slight=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            enforce_ordering(slight=False)
