"""Test cases whose layers are in memory and empty, a client for one reply channel, and routes for one test."""

from __future__ import annotations

import copy
import functools
import secrets
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from django.test.testcases import SimpleTestCase, TestCase, TransactionTestCase

from fastchannels import DEFAULT_CHANNEL_LAYER
from fastchannels.asgi import ChannelLayerWrapper, channel_layers
from fastchannels.channel import Group
from fastchannels.exceptions import ChannelSocketException
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.message import Message
from fastchannels.routing import Include
from fastchannels.signals import connections_left_open, consumer_finished, consumer_started

if TYPE_CHECKING:
    import unittest

__all__ = ["ChannelTestCase", "Client", "TransactionChannelTestCase", "apply_routes"]

#: Unread messages of one channel in a test (D-55).
CAPACITY = 10


@contextmanager
def layer_in_place(alias: str, wrapper: ChannelLayerWrapper) -> Iterator[None]:
    """``wrapper`` is the layer of ``alias`` inside the block."""
    old = channel_layers.set(alias, wrapper)
    try:
        yield
    finally:
        channel_layers.set(alias, old)


class ChannelTestCaseMixin(SimpleTestCase):
    """Each test has fresh layers in memory, with the routing of the project."""

    #: The layers that are replaced.
    test_channel_aliases: ClassVar[Sequence[str]] = (DEFAULT_CHANNEL_LAYER,)

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test."""
        with ExitStack() as layers:
            for alias in self.test_channel_aliases:
                layer = InMemoryChannelLayer(capacity=CAPACITY)
                wrapper = ChannelLayerWrapper(layer, alias, channel_layers.routing(alias))
                layers.enter_context(layer_in_place(alias, wrapper))
            return super().run(result)

    def get_next_message(
        self, channel: str, alias: str = DEFAULT_CHANNEL_LAYER, require: bool = False
    ) -> Message | None:
        """Take the next message off ``channel``; without one None, or with ``require`` a failure of the test."""
        message = next_message(channel_layers[alias], channel)
        if message is None and require:
            self.fail(f"a message on the channel {channel} was expected, there is none")
        return message


class ChannelTestCase(ChannelTestCaseMixin, TestCase):
    """In a transaction."""


class TransactionChannelTestCase(ChannelTestCaseMixin, TransactionTestCase):
    """With commits; the tables are emptied afterwards."""


def next_message(layer: ChannelLayerWrapper, channel: str) -> Message | None:
    """Take the next message off ``channel``, if there is one."""
    found, content = layer.receive_many([channel])
    return None if found is None or content is None else Message(content, found, layer)


class Client:
    """Stands for the client behind one reply channel: sends messages, runs their consumers, and reads the replies."""

    def __init__(self, alias: str = DEFAULT_CHANNEL_LAYER) -> None:
        self.alias = alias
        self.reply_channel = alias + "".join(secrets.choice(string.ascii_letters) for _ in range(5))
        #: The channel session, as a protocol server would carry it from event to event.
        self._carried: bytes | None = None

    @property
    def channel_layer(self) -> ChannelLayerWrapper:
        """The layer of the alias."""
        return channel_layers[self.alias]

    def get_next_message(self, channel: str) -> Message | None:
        """Take the next message off ``channel``, if there is one."""
        return next_message(self.channel_layer, channel)

    def get_consumer_by_channel(self, channel: str) -> Callable[..., Any] | None:
        """The consumer of a message on ``channel`` with an empty ``text``."""
        match = self.channel_layer.router.match(Message({"text": ""}, channel, self.channel_layer))
        return match[0] if match else None

    def send(self, to: str, content: dict[str, Any] | None = None) -> None:
        """Send a copy of ``content`` with our reply channel."""
        self.channel_layer.send(to, {"reply_channel": self.reply_channel, **copy.deepcopy(content or {})})

    def consume(self, channel: str, fail_on_none: bool = True) -> Any:
        """Run the consumer of the next message on ``channel``, and return what it returns.

        ``AssertionError`` when there is no message or no consumer, unless ``fail_on_none`` is false. The exceptions of
        the consumer come through; a ``ChannelSocketException`` acts on the reply channel.
        """
        message = self.get_next_message(channel)
        if message is None:
            if fail_on_none:
                raise AssertionError(f"there is no message on the channel {channel}")
            return None
        match = self.channel_layer.router.match(message)
        if match is None:
            if fail_on_none:
                raise AssertionError(f"no consumer takes {message!r}")
            return None
        consumer, kwargs = match
        self._carry(message)
        with connections_left_open():
            consumer_started.send(sender=type(self), environ={})
            try:
                return consumer(message, **kwargs)
            except ChannelSocketException as error:
                error.run(message)
                return None
            finally:
                self._take_back(message)
                consumer_finished.send(sender=type(self))

    def send_and_consume(self, channel: str, content: dict[str, Any] | None = None, fail_on_none: bool = True) -> Any:
        """:meth:`send`, then :meth:`consume`."""
        self.send(channel, content)
        return self.consume(channel, fail_on_none=fail_on_none)

    def receive(self) -> Any:
        """The content of the next reply; None without one."""
        message = self.get_next_message(self.reply_channel)
        return None if message is None else message.content

    def join_group(self, group_name: str) -> None:
        """Make our reply channel a member of a group."""
        Group(group_name, channel_layer=self.channel_layer).add(self.reply_channel)

    def _carry(self, message: Message) -> None:
        """What a protocol server adds to the event of a socket."""
        if message.reply_channel is not None and message.reply_channel.name == self.reply_channel:
            message.event = message.get("order", 0)
            message.session_payload = self._carried

    def _take_back(self, message: Message) -> None:
        if message.session_changed:
            self._carried = message.session_payload


class apply_routes:
    """Replace the routing of layers: as a ``with`` block, or as a decorator of a test or of a whole test case.

    ``routes`` is a route, a list of routes, or a list of such lists.
    """

    def __init__(self, routes: Any, aliases: Iterable[str] = (DEFAULT_CHANNEL_LAYER,)) -> None:
        listed = list(routes) if isinstance(routes, (list, tuple)) else [routes]
        self.routes = [Include(route) if isinstance(route, (list, tuple)) else route for route in listed]
        self._aliases = list(aliases)
        self._undo: list[ExitStack] = []

    def __enter__(self) -> None:
        with ExitStack() as undo:
            for alias in self._aliases:
                layer = channel_layers[alias]
                undo.callback(setattr, layer, "routing", layer.routing)
                layer.routing = self.routes
            self._undo.append(undo.pop_all())

    def __exit__(self, *exc: object) -> None:
        self._undo.pop().close()

    def __call__(self, test: Any) -> Any:
        """Decorate ``test``."""
        if isinstance(test, type):
            set_up = test.setUp  # type: ignore[attr-defined]

            @functools.wraps(set_up)
            def set_up_routed(case: Any) -> None:
                self.__enter__()
                case.addCleanup(self.__exit__)
                set_up(case)

            test.setUp = set_up_routed  # type: ignore[attr-defined]
            return test

        @functools.wraps(test)
        def routed(*args: Any, **kwargs: Any) -> Any:
            with self:
                return test(*args, **kwargs)

        return routed
