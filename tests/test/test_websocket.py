import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import modify_settings

from fastchannels.asgi import channel_layers
from fastchannels.auth import channel_session_user, channel_session_user_from_http
from fastchannels.exceptions import DenyConnection
from fastchannels.routing import connect_consumer, route
from fastchannels.sessions import channel_session, enforce_ordering, http_session
from fastchannels.test import WSClient, apply_routes

SEEN = []


@channel_session_user_from_http
def connect(message):
    SEEN.append(message.user.username)
    message.reply_channel.send({"accept": True})


@channel_session_user
def receive(message):
    message.channel_session["last"] = message["text"]
    message.reply_channel.send({"text": message.user.username + " " + message["text"]})


@http_session
def page(message):
    SEEN.append(message.http_session and message.http_session.get("n"))


def deny(message):
    raise DenyConnection


def silent(message):
    """Accepts nothing."""


ROUTES = [
    route("websocket.connect", connect, path="/in"),
    route("websocket.connect", silent, path="/silent"),
    route("websocket.connect", deny, path="/deny"),
    route("websocket.connect", connect_consumer),
    route("websocket.receive", receive),
    route("page", page),
    route("content", lambda message: SEEN.append(message.content)),
    route("ordered", enforce_ordering(lambda message: SEEN.append(message["order"]))),
    route("sessions", channel_session(lambda message: SEEN.append(message.channel_session["n"]))),
]


@pytest.fixture
def client(database):
    SEEN.clear()
    channel_layers.set("default", None)
    with apply_routes(ROUTES):
        yield WSClient()
    channel_layers.set("default", None)


class TestConnect:
    def test_must_be_accepted(self, client):
        client.send_and_consume("websocket.connect")
        assert client.receive() is None
        with pytest.raises(AssertionError, match="not accepted: None"):
            client.send_and_consume("websocket.connect", path="/silent")
        client.send_and_consume("websocket.connect", path="/silent", check_accept=False)
        with pytest.raises(DenyConnection):
            client.send_and_consume("websocket.connect", path="/deny")


class TestLogin:
    @pytest.fixture
    def user(self, client):
        return User.objects.create_user("ada", password="right")

    def converse(self, client):
        client.send_and_consume("websocket.connect", path="/in")
        client.send_and_consume("websocket.receive", text="hi")
        return client.receive(json=False)

    def test_by_credentials(self, client, user):
        assert not client.login(username="ada", password="wrong")
        assert client.login(username="ada", password="right")
        assert self.converse(client) == "ada hi"
        assert SEEN == ["ada"]

    def test_an_inactive_user(self, client, user):
        user.is_active = False
        user.save()
        assert not client.login(username="ada", password="right")

    def test_by_force(self, client, user):
        client.force_login(user)
        assert self.converse(client) == "ada hi"

    def test_nobody(self, client):
        assert self.converse(client) == " hi"


class TestSession:
    def test_is_that_of_the_channel(self, client):
        client.session["n"] = 7
        client.session.save()
        client.send_and_consume("sessions")
        assert SEEN == [7]
        client.send_and_consume("websocket.receive", text="hi")
        assert client.session["last"] == "hi"

    def test_is_that_of_the_page_at_the_first_message(self, client):
        client.session["n"] = 7
        client.session.save()
        client.send_and_consume("page")
        client.send_and_consume("page")
        assert SEEN == [7, None]

    def test_needs_the_app(self, client):
        with (
            modify_settings(INSTALLED_APPS={"remove": "django.contrib.sessions"}),
            pytest.raises(ImproperlyConfigured, match="sessions"),
        ):
            _ = client.session


class TestMessages:
    def content(self, client, *args, **kwargs):
        client.send_and_consume("content", *args, **kwargs)
        return SEEN.pop()

    def test_path_headers_and_cookies(self, client):
        client.set_header("x-n", 1)
        client.set_cookie("a", "b")
        content = self.content(client, {"k": 1}, path="/x?y=1")
        assert content["path"] == "/x"
        assert "query_string" not in content
        assert content["headers"]["x-n"] == 1
        assert b"a=b" in content["headers"]["cookie"]
        assert content["reply_channel"] == client.reply_channel
        with pytest.raises(ValueError, match="set_cookie"):
            client.set_header("Cookie", "x")

    def test_the_query_goes_with_the_handshake(self, client):
        client.send("websocket.connect", path="/?y=1")
        assert client.get_next_message("websocket.connect")["query_string"] == "y=1"

    def test_text(self, client):
        assert self.content(client, text={"a": 1})["text"] == '{"a": 1}'
        assert self.content(client, {"text": [1]})["text"] == "[1]"
        assert self.content(client, text="as it is")["text"] == "as it is"
        assert self.content(client, text="")["text"] == ""
        assert "text" not in self.content(client)

    def test_replies(self, client):
        for reply in ({"text": "[1]"}, {"text": "[1]"}, {"bytes": b"x"}):
            client.channel_layer.send(client.reply_channel, reply)
        assert [client.receive(), client.receive(json=False), client.receive()] == [[1], "[1]", {"bytes": b"x"}]
        assert client.receive() is None

    def test_numbers_its_messages(self, client):
        client = WSClient(ordered=True)
        for _ in range(3):
            client.send_and_consume("ordered")
        assert SEEN == [0, 1, 2]
        with pytest.raises(ValueError, match="numbers its messages itself"):
            client.send("ordered", {"order": 3})
