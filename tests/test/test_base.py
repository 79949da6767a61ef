import unittest

import pytest
from django.contrib.auth.models import Group as Model

from fastchannels.asgi import channel_layers
from fastchannels.channel import Channel, Group
from fastchannels.exceptions import ChannelFull, ConsumeLater, DenyConnection, WebsocketCloseException
from fastchannels.routing import route
from fastchannels.sessions import channel_session
from fastchannels.test import ChannelTestCase, Client, TransactionChannelTestCase, apply_routes


def run(case: type) -> unittest.TestResult:
    """Run the test case ``case`` as a test runner does."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun or result.errors
    return result


def passed(case: type) -> bool:
    result = run(case)
    assert not result.errors
    assert not result.failures
    return result.wasSuccessful()


@pytest.mark.parametrize("base", [ChannelTestCase, TransactionChannelTestCase])
class TestTheLayer:
    def test_is_new_for_each_test_and_the_old_one_comes_back(self, base, database):
        outside = channel_layers["default"]

        class Case(base):
            def test_one(self):
                assert channel_layers["default"] is not outside
                Channel("news").send({"n": 1})
                assert self.get_next_message("news").content == {"n": 1}
                Channel("news").send({"n": 2})

            test_two = test_one

        assert passed(Case)
        assert channel_layers["default"] is outside

    def test_has_room_for_ten(self, base, database):
        class Case(base):
            def test_it(self):
                for n in range(10):
                    Channel("news").send({"n": n})
                with pytest.raises(ChannelFull):
                    Channel("news").send({"n": 10})

        assert passed(Case)

    def test_requires_a_message(self, base, database):
        class Case(base):
            def test_it(self):
                assert self.get_next_message("news") is None
                self.get_next_message("news", require=True)

        [(_, text)] = run(Case).failures
        assert "a message on the channel news was expected" in text


@channel_session
def count(message):
    message.channel_session["n"] = message.channel_session.get("n", 0) + 1
    message.reply_channel.send({"n": message.channel_session["n"]})
    return "result"


def steer(message):
    message.reply_channel.send({"was": "held"})
    raise {"later": ConsumeLater, "deny": DenyConnection, "close": WebsocketCloseException}[message["how"]]


def store(message):
    Model.objects.create(name=message["name"])


ROUTES = [route("count", count), route("steer", steer), route("store", store)]


class TestClient:
    @pytest.fixture(autouse=True)
    def routed(self):
        channel_layers.set("default", None)
        with apply_routes(ROUTES):
            yield
        channel_layers.set("default", None)

    def test_runs_the_consumer_and_reads_the_replies(self):
        client = Client()
        assert client.send_and_consume("count", {"a": [1]}) == "result"
        assert client.receive() == {"n": 1}
        assert client.receive() is None

    def test_carries_the_channel_session(self):
        client, other = Client(), Client()
        for _ in range(2):
            client.send_and_consume("count")
        other.send_and_consume("count")
        assert [client.receive(), client.receive(), other.receive()] == [{"n": 1}, {"n": 2}, {"n": 1}]

    def test_sends_a_copy(self):
        content = {"how": "close"}
        Client().send("steer", content)
        assert content == {"how": "close"}

    def test_exceptions_come_through_and_what_was_held_leaves(self):
        client = Client()
        with pytest.raises(ConsumeLater):
            client.send_and_consume("steer", {"how": "later"})
        with pytest.raises(DenyConnection):
            client.send_and_consume("steer", {"how": "deny"})
        client.send_and_consume("steer", {"how": "close"})
        held = {"was": "held"}
        assert [client.receive() for _ in range(5)] == [held, held, held, {"close": True}, None]

    def test_nothing_to_consume(self):
        client = Client()
        with pytest.raises(AssertionError, match="no message on the channel count"):
            client.consume("count")
        assert client.consume("count", fail_on_none=False) is None
        with pytest.raises(AssertionError, match="no consumer takes"):
            client.send_and_consume("other")
        assert client.send_and_consume("other", fail_on_none=False) is None

    def test_knows_the_consumer_of_a_channel(self):
        assert Client().get_consumer_by_channel("count") is count
        assert Client().get_consumer_by_channel("other") is None

    def test_joins_groups(self):
        client = Client()
        client.join_group("all")
        Group("all").send({"n": 1})
        assert client.receive() == {"n": 1}

    def test_what_a_consumer_stored_is_seen_before_it_is_committed(self, database):
        class Case(ChannelTestCase):
            @apply_routes(ROUTES)
            def test_it(self):
                Client().send_and_consume("store", {"name": "a"})
                assert Model.objects.get().name == "a"

        assert passed(Case)
        assert not Model.objects.exists()


class TestApplyRoutes:
    def seen(self):
        return {name for name in ("a", "b", "c") if Client().get_consumer_by_channel(name)}

    def test_one_a_list_or_lists(self):
        first, second, third = (route(name, count) for name in "abc")
        with apply_routes(first):
            assert self.seen() == {"a"}
            with apply_routes([[second], [third]]):
                assert self.seen() == {"b", "c"}
            assert self.seen() == {"a"}
        assert self.seen() == set()

    def test_of_a_whole_case(self, database):
        seen = []

        @apply_routes([route("a", count)])
        class Case(ChannelTestCase):
            def setUp(self):
                seen.append(Client().get_consumer_by_channel("a"))

            def test_it(self):
                seen.append(Client().get_consumer_by_channel("a"))

        assert passed(Case)
        assert seen == [count, count]
        assert self.seen() == set()

    def test_patches_each_alias(self, settings_of_two_layers):
        with apply_routes([route("a", count)], aliases=["second"]):
            assert Client("second").get_consumer_by_channel("a") is count
            assert Client().get_consumer_by_channel("a") is None

    @pytest.fixture
    def settings_of_two_layers(self):
        from django.test import override_settings

        layer = {"BACKEND": "fastchannels.layers.memory.InMemoryChannelLayer"}
        with override_settings(
            CHANNEL_LAYERS={"default": layer, "second": layer}, FASTCHANNELS_ROUTING={"default": [], "second": []}
        ):
            yield
