import pytest

from fastchannels.generic import BaseConsumer
from fastchannels.routing import Router
from tests.talk import make_event, make_layer, make_message

LAYER = make_layer()


class Recorder(BaseConsumer):
    method_mapping = {"a": "on_a", "b": "on_b"}
    calls: list = []

    def on_a(self, message, **kwargs):
        self.calls.append(("a", message, self.message, self.kwargs, kwargs))

    def on_b(self, message, **kwargs):
        raise LookupError


def test_constructing_runs_the_method_of_the_channel():
    message = make_message(LAYER, "a")
    Recorder.calls.clear()
    Recorder(message, room="red")
    assert Recorder.calls == [("a", message, message, {"room": "red"}, {"room": "red"})]
    with pytest.raises(LookupError):
        Recorder(make_message(LAYER, "b"))
    assert Recorder.channel_names() == {"a", "b"}


def test_as_route():
    message = make_message(LAYER, "a", path="/red")
    consumer, kwargs = Router([Recorder.as_route(path="/(?P<room>.+)")]).match(message)
    assert (consumer, kwargs) == (Recorder, {"room": "red"})


def test_as_route_with_attributes_makes_a_subclass():
    consumer, _ = Router([Recorder.as_route({"colour": "red"})]).match(make_message(LAYER, "a"))
    assert issubclass(consumer, Recorder)
    assert consumer.colour == "red"
    assert not hasattr(Recorder, "colour")
    with pytest.raises(AssertionError, match="dict"):
        Recorder.as_route(["colour"])


def test_channel_session_is_a_switch():
    class Counter(BaseConsumer):
        method_mapping = {"a": "on_a"}
        channel_session = True

        def on_a(self, message):
            message.channel_session["n"] = 1

    message = make_event(LAYER, "a")
    Counter(message)
    assert message.session_changed


def test_channel_session_user_is_a_switch(database):
    class Greeter(BaseConsumer):
        method_mapping = {"a": "on_a"}
        channel_session_user = True

        def on_a(self, message):
            assert message.user.is_anonymous
            message.channel_session["n"] = 1

    message = make_event(LAYER, "a")
    Greeter(message)
    assert message.session_changed


def test_an_async_method_is_refused():
    class Async(BaseConsumer):
        method_mapping = {"a": "on_a"}

        async def on_a(self, message):
            """Never runs."""

    with pytest.raises(TypeError, match="plain functions"):
        Async(make_message(LAYER, "a"))


def test_get_handler_is_the_place_for_decorators():
    class Decorated(Recorder):
        def get_handler(self, message, **kwargs):
            handler = super().get_handler(message, **kwargs)
            return lambda message, **kwargs: handler(message, decorated=True)

    Recorder.calls.clear()
    Decorated(make_message(LAYER, "a"))
    assert Recorder.calls[0][-1] == {"decorated": True}
