"""The base of class consumers: one instance for each message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from fastchannels.auth import channel_session_user
from fastchannels.message import Message
from fastchannels.routing import RouteClass
from fastchannels.sessions import channel_session

__all__ = ["BaseConsumer"]


class BaseConsumer:
    """Calls, for a message, the method that ``method_mapping`` names for its channel. Constructing it runs it."""

    #: Channel name to method name.
    method_mapping: ClassVar[dict[str, str]] = {}
    #: Whether the methods get ``message.channel_session``.
    channel_session: ClassVar[bool] = False

    #: Whether they get ``message.user`` from the channel session, and the channel session with it.
    channel_session_user: ClassVar[bool] = False

    def __init__(self, message: Message, **kwargs: Any) -> None:
        self.message = message
        self.kwargs = kwargs
        self.dispatch(message, **kwargs)

    @classmethod
    def channel_names(cls) -> set[str]:
        """The channels of ``method_mapping``."""
        return set(cls.method_mapping)

    @classmethod
    def as_route(cls, attrs: dict[str, Any] | None = None, **options: Any) -> RouteClass:
        """A route to this class, or to a subclass of it that carries ``attrs``, with the options of ``route``."""
        consumer: type[BaseConsumer] = cls
        if attrs is not None:
            assert isinstance(attrs, dict), f"attrs is a dict of class attributes, not {attrs!r}"
            consumer = type(cls.__name__, (cls,), attrs)
        return RouteClass(consumer, **options)

    def get_handler(self, message: Message, **kwargs: Any) -> Callable[..., Any]:
        """The method for ``message``, with its decorators. Override it to add your own."""
        handler: Callable[..., Any] = getattr(self, self.method_mapping[message.channel.name])
        if self.channel_session_user:
            return channel_session_user(handler)
        return channel_session(handler) if self.channel_session else handler

    def dispatch(self, message: Message, **kwargs: Any) -> None:
        """Call the handler. ``TypeError`` for an ``async def`` method: a constructor cannot await it."""
        result = self.get_handler(message, **kwargs)(message, **kwargs)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                f"{type(self).__qualname__}: methods of class consumers are plain functions; "
                "write an async consumer as an async def function"
            )
