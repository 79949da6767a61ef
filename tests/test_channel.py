import asyncio
import threading
from contextlib import nullcontext, suppress

import pytest
from django.db import transaction
from django.test import override_settings

from fastchannels import channel as channel_module
from fastchannels.channel import Channel, Group, pending_message_store
from fastchannels.exceptions import ChannelFull, InvalidMessageError, InvalidNameError, MessageTooLarge
from tests.talk import REPLY, ack, inside_a_consumer, make_layer, sent


@pytest.fixture
def layer():
    return make_layer()


def test_a_channel_is_a_name_on_a_layer(layer):
    channel = Channel(b"news", channel_layer=layer)
    assert (channel.name, str(channel), channel.channel_layer) == ("news", "news", layer)


def test_the_default_layer_is_the_one_of_the_settings():
    from fastchannels.asgi import get_channel_layer

    assert Channel("news").channel_layer is get_channel_layer()


def test_a_send_outside_a_consumer_leaves_at_once(layer):
    Channel("news", channel_layer=layer).send({"n": 1})
    assert sent(layer, "news") == [{"n": 1}]


def test_a_send_outside_a_consumer_shows_a_full_channel():
    channel = Channel("news", channel_layer=make_layer(capacity=1))
    channel.send({})
    with pytest.raises(ChannelFull):
        channel.send({})


def test_sends_inside_a_consumer_leave_in_the_order_of_the_calls(layer):
    Group("all", channel_layer=layer).add("news")
    with inside_a_consumer():
        Channel("news", channel_layer=layer).send({"n": 1})
        Group("all", channel_layer=layer).send({"n": 2})
        Channel("news", channel_layer=layer).send({"n": 3})
        assert sent(layer, "news") == []
    assert sent(layer, "news") == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_immediately_does_not_wait_for_the_end(layer):
    with inside_a_consumer():
        Channel("news", channel_layer=layer).send({"n": 1}, immediately=True)
        Group("all", channel_layer=layer).add("news")
        Group("all", channel_layer=layer).send({"n": 2}, immediately=True)
        assert sent(layer, "news") == [{"n": 1}, {"n": 2}]
    assert sent(layer, "news") == []


def test_the_message_is_taken_as_it_is_at_the_call(layer):
    content = {"rooms": ["a"]}
    with inside_a_consumer():
        Channel("news", channel_layer=layer).send(content)
        content["rooms"].append("b")
    assert sent(layer, "news") == [{"rooms": ["a"]}]


def test_an_inner_consumer_sends_only_its_own(layer):
    with inside_a_consumer():
        Channel("news", channel_layer=layer).send({"n": "outer"})
        with inside_a_consumer():
            Channel("news", channel_layer=layer).send({"n": "inner"})
        assert sent(layer, "news") == [{"n": "inner"}]
    assert sent(layer, "news") == [{"n": "outer"}]
    assert not pending_message_store.active


def test_another_thread_inside_a_consumer_sends_at_once(layer):
    with inside_a_consumer():
        thread = threading.Thread(target=Channel("news", channel_layer=layer).send, args=({"n": 1},))
        thread.start()
        thread.join()
        assert sent(layer, "news") == [{"n": 1}]


@pytest.mark.parametrize("target", [Channel, Group])
@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_only_a_dict_is_a_message(layer, target, error):
    with pytest.raises(error, match="a message is a dict, not list"):
        target("news", channel_layer=layer).send([1])


@pytest.mark.parametrize("where", [nullcontext, inside_a_consumer])
@pytest.mark.parametrize("target", [Channel, Group])
def test_a_reserved_key_is_refused(layer, target, where):
    sender = target("news", channel_layer=layer)
    with where(), pytest.raises(InvalidMessageError, match="__ack__"):
        sender.send({"__ack__": 1})


def test_what_cannot_be_carried_fails_at_the_call_and_names_the_path(layer):
    with inside_a_consumer():
        with pytest.raises(InvalidMessageError, match=r"message\['rooms'\]\[1\]"):
            Channel("news", channel_layer=layer).send({"rooms": [1, object()]})
        with pytest.raises(InvalidNameError, match="bad name"):
            Channel("bad name", channel_layer=layer).send({})
        with pytest.raises(InvalidNameError, match="bad group"):
            Group("bad group", channel_layer=layer).send({})
    assert sent(layer, "news") == []


def test_a_message_that_is_too_large_fails_at_the_call():
    layer = make_layer(max_message_size=100)
    with inside_a_consumer(), pytest.raises(MessageTooLarge, match="max_message_size"):
        Channel("news", channel_layer=layer).send({"text": "x" * 200})


def test_a_group_takes_channels_and_names_and_acts_at_once(layer):
    group = Group("all", channel_layer=layer)
    with inside_a_consumer():
        group.add(Channel("a", channel_layer=layer))
        group.add("b")
        group.send({"n": 1}, immediately=True)
        group.discard("a")
        group.discard(Channel("b", channel_layer=layer))
        group.send({"n": 2}, immediately=True)
    assert sent(layer, "a") == [{"n": 1}]
    assert sent(layer, "b") == [{"n": 1}]


def test_a_full_channel_delays_the_flush_and_then_drops_only_what_does_not_fit(monkeypatch, caplog):
    monkeypatch.setattr(channel_module, "FLUSH_PATIENCE", 0.1)
    monkeypatch.setattr(channel_module, "FLUSH_PAUSE", 0.01)
    layer = make_layer(capacity=1)
    with inside_a_consumer():
        Channel("full", channel_layer=layer).send({"n": 1})
        Channel("full", channel_layer=layer).send({"n": 2})
        Channel("news", channel_layer=layer).send({"n": 3})
    assert sent(layer, "full") == [{"n": 1}]
    assert sent(layer, "news") == [{"n": 3}]
    assert "full was dropped" in caplog.text


def test_a_full_channel_that_gets_room_loses_nothing(monkeypatch):
    layer = make_layer(capacity=1)
    got = []
    # Each wait of the flush reads one message.
    monkeypatch.setattr(channel_module.time, "sleep", lambda seconds: got.extend(sent(layer, "news")))
    with inside_a_consumer():
        for number in range(3):
            Channel("news", channel_layer=layer).send({"n": number})
    assert got + sent(layer, "news") == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_failing_layer_does_not_stop_the_flush(layer, caplog):
    broken = make_layer()
    broken.layer.send_sync = lambda channel, message: 1 / 0
    with inside_a_consumer():
        Channel("lost", channel_layer=broken).send({})
        Channel("news", channel_layer=layer).send({"n": 1})
    assert sent(layer, "news") == [{"n": 1}]
    assert "lost was dropped" in caplog.text


class TestAcknowledgement:
    def acknowledge(self, layer, send, session=None):
        with inside_a_consumer() as frame:
            frame.layer, frame.reply_channel, frame.event, frame.session = layer, REPLY, 7, session
            send(Channel(REPLY, channel_layer=layer))

    def test_the_last_replies_travel_with_it(self, layer):
        def send(reply):
            reply.send({"text": "before"})
            Channel("news", channel_layer=layer).send({"n": 1})
            reply.send({"text": "a"})
            reply.send({"text": "b"})

        self.acknowledge(layer, send)
        assert sent(layer) == [{"text": "before"}, ack(7, {"text": "a"}, {"text": "b"})]
        assert sent(layer, "news") == [{"n": 1}]

    def test_it_is_sent_without_replies(self, layer):
        self.acknowledge(layer, lambda reply: None, session=b"changed")
        assert sent(layer) == [ack(7, session=b"changed")]

    def test_replies_that_do_not_fit_together_go_one_by_one(self):
        layer = make_layer(max_message_size=200)
        texts = [{"text": letter * 120} for letter in "ab"]
        self.acknowledge(layer, lambda reply: [reply.send(text) for text in texts])
        assert sent(layer) == [*texts, ack(7)]


def test_an_async_caller_needs_no_bridge(layer):
    async def main():
        Channel("news", channel_layer=layer).send({"n": 1})

    asyncio.run(main())
    assert sent(layer, "news") == [{"n": 1}]


class TestSeveralGroups:
    @pytest.fixture
    def layer(self):
        layer = make_layer()
        for member, groups in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"])):
            Group(groups, channel_layer=layer).add(Channel(member, channel_layer=layer))
        return layer

    @pytest.mark.parametrize("inside", [True, False], ids=["consumer", "anywhere"])
    @pytest.mark.parametrize("exclude", ["one name", "a channel", "a list"])
    def test_each_member_gets_it_once_but_those_excluded(self, layer, inside, exclude):
        channel = Channel("c", channel_layer=layer)
        excluded = {"one name": "c", "a channel": channel, "a list": [channel, "nobody"]}[exclude]
        with inside_a_consumer() if inside else nullcontext():
            Group(["x", "y"], channel_layer=layer).send({"n": 1})
            Group(iter(["x", "y"]), channel_layer=layer).send({"n": 2}, exclude=excluded)
            Group("y", channel_layer=layer).send({"n": 3}, exclude=excluded)
            Group("y", channel_layer=layer).send({"n": 4}, immediately=True)
        got = {name: sent(layer, name) for name in "abc"}
        order = [4, 1, 2, 3] if inside else [1, 2, 3, 4]
        assert got["a"] == [{"n": 1}, {"n": 2}]
        assert got["b"] == [{"n": n} for n in order]
        assert got["c"] == [{"n": n} for n in order if n in (1, 4)]

    def test_they_are_left_together(self, layer):
        groups = Group(["x", "y"], channel_layer=layer)
        groups.discard("b")
        groups.send({"n": 1})
        assert [sent(layer, name) for name in "abc"] == [[{"n": 1}], [], [{"n": 1}]]
        assert (str(groups), repr(groups)) == ("x, y", "<Group x, y>")

    @pytest.mark.parametrize("inside", [True, False], ids=["consumer", "anywhere"])
    def test_bad_names_are_refused_now(self, layer, inside):
        with inside_a_consumer() if inside else nullcontext():
            with pytest.raises(TypeError, match="group name"):
                Group(["x", "y!"], channel_layer=layer).send({})
            with pytest.raises(TypeError, match="channel name"):
                Group("x", channel_layer=layer).send({}, exclude=["a b"])


@pytest.mark.parametrize("inside", [True, False], ids=["consumer", "anywhere"])
class TestSendOnCommit:
    """D-54."""

    @pytest.fixture(autouse=True)
    def wanted(self, database):
        with override_settings(FASTCHANNELS_SEND_ON_COMMIT=True):
            yield

    def run(self, inside, action):
        layer = make_layer()
        channel, group = Channel("news", channel_layer=layer), Group("all", channel_layer=layer)
        group.add("members")
        with inside_a_consumer() if inside else nullcontext():
            action(layer, channel, group)
        return sent(layer, "news"), sent(layer, "members")

    def test_a_commit_lets_them_go(self, inside):
        def action(layer, channel, group):
            with transaction.atomic():
                channel.send({"n": 1})
                group.send({"n": 2})
                assert sent(layer, "news") == []
            channel.send({"n": 3})

        assert self.run(inside, action) == ([{"n": 1}, {"n": 3}], [{"n": 2}])

    def test_a_rollback_takes_them_along(self, inside):
        def action(layer, channel, group):
            channel.send({"n": 1})
            with suppress(LookupError), transaction.atomic():
                channel.send({"n": 2})
                group.send({"n": 2})
                raise LookupError
            with transaction.atomic(), suppress(LookupError), transaction.atomic():
                channel.send({"n": 3})
                raise LookupError

        assert self.run(inside, action) == ([{"n": 1}], [])

    def test_immediately_is_now(self, inside):
        def action(layer, channel, group):
            with transaction.atomic():
                channel.send({"n": 1}, immediately=True)
                assert sent(layer, "news") == [{"n": 1}]

        assert self.run(inside, action) == ([], [])

    def test_it_is_not_the_default(self, inside):
        def action(layer, channel, group):
            with override_settings(FASTCHANNELS_SEND_ON_COMMIT=False), suppress(LookupError), transaction.atomic():
                channel.send({"n": 1})
                raise LookupError

        assert self.run(inside, action) == ([{"n": 1}], [])
