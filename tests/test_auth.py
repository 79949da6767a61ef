import asyncio
from importlib import import_module

import pytest
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext

from fastchannels.auth import (
    channel_and_http_session_user_from_http,
    channel_session_user,
    channel_session_user_from_http,
    http_session_user,
    kick,
    transfer_user,
)
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.codec import Codec
from tests.talk import make_event, make_layer, make_message, sent

LAYER = make_layer()
SessionStore = import_module(settings.SESSION_ENGINE).SessionStore


@pytest.fixture
def user(database):
    return User.objects.create_user("ada", password="pass")


@pytest.fixture
def session(user):
    """What Django leaves when ``user`` logs in."""
    request = HttpRequest()
    request.session = SessionStore()
    auth.login(request, user)
    request.session.save()
    return request.session


def connect(session=None, **content):
    headers = [] if session is None else [[b"cookie", f"{settings.SESSION_COOKIE_NAME}={session.session_key}".encode()]]
    return make_event(LAYER, "websocket.connect", 0, headers=headers, **content)


def following(message, event=1):
    """The next event of the socket of ``message``."""
    return make_event(LAYER, "websocket.receive", event, session=message.session_payload)


class TestHttpSessionUser:
    def test_is_the_user_who_logged_in(self, session, user):
        seen = []
        http_session_user(lambda message: seen.append(message.user))(connect(session))
        assert seen == [user]
        assert seen[0].is_authenticated

    def test_is_anonymous_without_a_session(self, database):
        message = connect()
        http_session_user(lambda message: None)(message)
        assert message.user == AnonymousUser()
        assert not message.user.is_authenticated

    def test_is_loaded_when_it_is_looked_at(self, session, user):
        with CaptureQueriesContext(connection) as queries:
            message = connect(session)
            http_session_user(lambda message: None)(message)
            assert len(queries) == 0
            assert message.user.username == "ada"
            assert len(queries) == 1

    def test_of_an_async_consumer_needs_no_query_on_its_loop(self, session, user):
        @http_session_user
        async def consumer(message):
            return message.user.username

        assert asyncio.run(consumer(connect(session))) == "ada"

    def test_stays_when_it_is_set_already(self, session, user):
        message = connect(session)
        message.user = "someone"
        http_session_user(lambda message: None)(message)
        assert message.user == "someone"


class TestChannelSessionUser:
    def test_comes_from_the_connect_to_the_later_events(self, session, user):
        first = connect(session)
        channel_session_user_from_http(lambda message: None)(first)
        assert first.user == user
        assert Codec().decode(first.session_payload)[auth.SESSION_KEY] == str(user.pk)
        later = following(first)
        channel_session_user(lambda message: None)(later)
        assert later.user == user

    def test_comes_along_for_async_consumers(self, session, user):
        @channel_session_user_from_http
        async def connecting(message):
            assert message.user == user

        @channel_session_user
        async def receiving(message):
            return message.user.username

        first = connect(session)
        asyncio.run(connecting(first))
        assert asyncio.run(receiving(following(first))) == "ada"

    def test_is_anonymous_without_a_login(self, database):
        message = connect()
        channel_session_user_from_http(lambda message: None)(message)
        assert not message.user.is_authenticated
        assert message.session_payload is None

    def test_ends_when_the_password_changed(self, session, user):
        first = connect(session)
        channel_session_user_from_http(lambda message: None)(first)
        user.set_password("other")
        user.save()
        later = following(first)
        channel_session_user(lambda message: str(message.user))(later)
        assert not later.user.is_authenticated
        assert Codec().decode(later.session_payload) == {}

    def test_needs_a_socket(self):
        with pytest.raises(ValueError, match="channel_session"):
            channel_session_user(lambda message: None)(make_message(LAYER))


def test_both_sessions_and_the_user_come_along(session, user):
    consumer = channel_and_http_session_user_from_http(lambda message: None)
    first = connect(session)
    consumer(first)
    later = following(first)
    consumer(later)
    assert later.user == user
    assert later.http_session.session_key == session.session_key


class TestTransferUser:
    KEYS = (auth.SESSION_KEY, auth.BACKEND_SESSION_KEY, auth.HASH_SESSION_KEY)

    def test_copies_the_three_keys(self):
        to = {}
        transfer_user({**dict.fromkeys(self.KEYS, "x"), "other": 1}, to)
        assert to == dict.fromkeys(self.KEYS, "x")

    @pytest.mark.parametrize("missing", KEYS)
    def test_copies_nothing_when_one_is_missing(self, missing):
        to = {}
        transfer_user({key: "x" for key in self.KEYS if key != missing}, to)
        assert to == {}


class TestKick:
    @pytest.fixture(autouse=True)
    def layer(self, monkeypatch):
        layer = make_layer()
        monkeypatch.setattr("fastchannels.asgi.channel_layers._layers", {"default": layer})
        return layer

    def open(self, layer, session, reply_channel):
        headers = [[b"cookie", f"{settings.SESSION_COOKIE_NAME}={session.session_key}".encode()]]
        message = make_event(layer, "websocket.connect", 0, headers=headers, reply_channel=reply_channel)
        channel_session_user_from_http(lambda message: None)(message)

    def second_session(self, user):
        request = HttpRequest()
        request.session = SessionStore()
        auth.login(request, user)
        request.session.save()
        return request.session

    def test_closes_every_socket_of_the_user(self, layer, session, user):
        other = User.objects.create_user("ben")
        other.backend = "django.contrib.auth.backends.ModelBackend"
        for name, opened in (("a", session), ("b", self.second_session(user)), ("c", self.second_session(other))):
            self.open(layer, opened, name)
        kick(user)
        kick(user.pk, code=4001)
        assert [sent(layer, name) for name in "abc"] == [[{"close": 3000}, {"close": 4001}]] * 2 + [[]]

    def test_refuses_a_code_that_no_application_may_send(self, user):
        with pytest.raises(ValueError, match="1006"):
            kick(user, code=1006)

    def test_a_logout_closes_the_sockets_of_its_session(self, layer, session, user):
        self.open(layer, session, "a")
        self.open(layer, self.second_session(user), "b")
        request = HttpRequest()
        request.session = session
        request.user = user
        auth.logout(request)
        assert [sent(layer, name) for name in "ab"] == [[{"close": 3000}], []]

    def test_a_logout_goes_through_when_the_layer_is_away(self, layer, session, user, monkeypatch, caplog):
        def refuse(*args):
            raise LayerUnavailable("no Redis")

        monkeypatch.setattr(layer, "send_group", refuse)
        request = HttpRequest()
        request.session = session
        request.user = user
        auth.logout(request)
        assert request.user.is_anonymous
        assert "stay open" in caplog.text

    def test_of_an_anonymous_session_nothing_is_remembered(self, layer, database):
        message = make_event(layer, "websocket.connect", 0, headers=[])
        channel_session_user_from_http(lambda message: None)(message)
        assert list(layer.layer.groups.groups()) == []
