import asyncio

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core import signing
from django.test import override_settings

from fastchannels.auth import channel_session_user, kick
from fastchannels.exceptions import DenyConnection
from fastchannels.security.tickets import make_ticket, ticket_user, user_of_ticket
from tests.talk import make_event, make_layer, sent


@pytest.fixture
def user(database):
    return User.objects.create_user("ada", password="pass")


@pytest.fixture
def layer(monkeypatch):
    layer = make_layer()
    monkeypatch.setattr("fastchannels.asgi.channel_layers._layers", {"default": layer})
    return layer


def connect(layer, query, **content):
    return make_event(layer, "websocket.connect", 0, headers=[], query_string=query.encode(), **content)


def test_a_ticket_leads_to_its_user(user):
    assert user_of_ticket(make_ticket(user)) == user


def test_a_ticket_fits_a_query_string(user):
    assert not set(make_ticket(user)) & set("&=?#+%/ ")


def test_nobody_gets_no_ticket():
    with pytest.raises(ValueError, match="logged in"):
        make_ticket(AnonymousUser())


def test_a_ticket_becomes_old(user, monkeypatch):
    ticket = make_ticket(user)
    now = signing.time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now + 29)
    assert user_of_ticket(ticket) == user
    monkeypatch.setattr(signing.time, "time", lambda: now + 31)
    assert user_of_ticket(ticket) is None
    with override_settings(FASTCHANNELS_TICKET_AGE=60):
        assert user_of_ticket(ticket) == user


@pytest.mark.parametrize("change", ["password", "is_active", "gone"])
def test_a_user_who_cannot_log_in_any_more(user, change):
    ticket = make_ticket(user)
    if change == "password":
        user.set_password("other")
        user.save()
    elif change == "is_active":
        user.is_active = False
        user.save()
    else:
        user.delete()
    assert user_of_ticket(ticket) is None


@pytest.mark.parametrize("ticket", ["", "x", "a:b:c"])
def test_what_is_no_ticket(ticket):
    assert user_of_ticket(ticket) is None


def test_a_signature_for_something_else_is_no_ticket(user):
    assert user_of_ticket(signing.dumps([str(user.pk), "b", "h"])) is None


class TestDecorator:
    def test_the_user_is_known_at_every_event(self, layer, user):
        first = connect(layer, f"a=b&ticket={make_ticket(user)}")
        seen = []
        ticket_user(lambda message: seen.append(message.user))(first)
        later = make_event(layer, "websocket.receive", 1, session=first.session_payload)
        channel_session_user(lambda message: seen.append(message.user))(later)
        assert seen == [user, user]

    def test_of_an_async_consumer(self, layer, user):
        @ticket_user
        async def consumer(message):
            return message.user

        assert asyncio.run(consumer(connect(layer, f"ticket={make_ticket(user)}"))) == user

    @pytest.mark.parametrize("query", ["", "ticket=", "ticket=wrong", "ticket={0}&ticket={0}", "ticket=%ff"])
    def test_nobody_else_comes_in(self, layer, user, query, caplog):
        query = query.format(make_ticket(user))
        with pytest.raises(DenyConnection):
            ticket_user(lambda message: None)(connect(layer, query))
        assert "ticket is missing, too old or not valid" in caplog.text
        # The log must not hold what opens a socket.
        assert make_ticket(user).split(":")[0] not in caplog.text

    def test_the_socket_can_be_kicked(self, layer, user):
        ticket_user(lambda message: None)(connect(layer, f"ticket={make_ticket(user)}", reply_channel="socket"))
        kick(user)
        assert sent(layer, "socket") == [{"close": 3000}]
