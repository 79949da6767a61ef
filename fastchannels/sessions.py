"""Sessions for consumers, as decorators of functions and methods, plain or ``async``.

``channel_session`` belongs to one socket: the protocol server keeps it, sends it with each of its events and takes
a changed one back with the acknowledgement, so it has one writer at a time and ends with the socket (design section 6).
``http_session`` is Django's session of the request.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar, overload

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured

from fastchannels.exceptions import InvalidMessageError, MessageRangeError, MessageTooLarge
from fastchannels.layers.codec import Codec
from fastchannels.message import Message

__all__ = [
    "ChannelSession",
    "channel_and_http_session",
    "channel_session",
    "check_settings",
    "enforce_ordering",
    "http_session",
]

F = TypeVar("F", bound=Callable[..., Any])
_MISSING = object()


def check_settings() -> None:
    """Raise ``ImproperlyConfigured`` when a session engine is asked for."""
    if getattr(settings, "CHANNEL_SESSION_ENGINE", None) is not None:
        raise ImproperlyConfigured(
            "CHANNEL_SESSION_ENGINE is set, but this version carries the channel session with the socket only: "
            "remove the setting"
        )


class ChannelSession:
    """The session of one socket, with the methods of Django's sessions.

    It holds what a message can hold: text, bytes, numbers, None, and lists and dicts of these (keys are text). As in
    Django, a change inside a value is noticed only when ``modified`` is set.
    """

    def __init__(self, message: Message) -> None:
        self._message = message
        self._data: dict[str, Any] | None = None
        #: Whether there is something to save.
        self.modified = False

    @property
    def _session(self) -> dict[str, Any]:
        if self._data is None:
            payload = self._message.session_payload
            self._data = Codec().decode(payload) if payload else {}
        return self._data

    def __contains__(self, key: object) -> bool:
        return key in self._session

    def __getitem__(self, key: str) -> Any:
        return self._session[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._session[key] = value
        self.modified = True

    def __delitem__(self, key: str) -> None:
        del self._session[key]
        self.modified = True

    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, or ``default``."""
        return self._session.get(key, default)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove ``key`` and return its value, or ``default``; ``KeyError`` without one."""
        self.modified = self.modified or key in self._session
        return self._session.pop(key) if default is _MISSING else self._session.pop(key, default)

    def setdefault(self, key: str, value: Any) -> Any:
        """The value under ``key``, which becomes ``value`` when there is none."""
        if key not in self._session:
            self[key] = value
        return self._session[key]

    def update(self, values: dict[str, Any]) -> None:
        """Set each key of ``values``."""
        self._session.update(values)
        self.modified = True

    def has_key(self, key: str) -> bool:
        """Whether ``key`` is there."""
        return key in self._session

    def keys(self) -> KeysView[str]:
        """The keys."""
        return self._session.keys()

    def values(self) -> ValuesView[Any]:
        """The values."""
        return self._session.values()

    def items(self) -> ItemsView[str, Any]:
        """The pairs."""
        return self._session.items()

    def is_empty(self) -> bool:
        """Whether nothing is stored."""
        return not self._session

    def clear(self) -> None:
        """Remove every key."""
        self._data = {}
        self.modified = True

    def flush(self) -> None:
        """Remove every key; the socket goes on with an empty session."""
        self.clear()

    def cycle_key(self) -> None:
        """Django asks for a new key at a login; a session without a key has nothing to change."""

    def save(self) -> None:
        """Put the session as it is now into the acknowledgement of this event, and into a retry of it.

        Raises ``InvalidMessageError`` or ``MessageRangeError``, with the path of the value that cannot be carried, and
        ``MessageTooLarge``.
        """
        message = self._message
        # Never encrypted by itself: it travels inside a message.
        codec = Codec(message.channel_layer.layer.codec.max_message_size)
        try:
            payload = codec.encode(self._session)
        except (InvalidMessageError, MessageRangeError) as error:
            # The codec speaks of a message; here the same path leads into the session.
            path = str(error).removeprefix("message")
            raise type(error)(f"the session cannot be carried: channel_session{path}") from None
        except MessageTooLarge as error:
            raise MessageTooLarge(f"the session cannot be carried: {error}") from None
        message.session_payload = payload
        message.session_changed = True
        self.modified = False


def message_of(args: tuple[Any, ...], decorator: str) -> Message:
    """The message among the first two positional ``args``, so that a method is served too. ``ValueError`` without."""
    for argument in args[:2]:
        if isinstance(argument, Message):
            return argument
    raise ValueError(f"{decorator} was called without a Message among its first two positional arguments")


@contextmanager
def _open_channel_session(message: Message) -> Iterator[None]:
    if not hasattr(message, "channel_session"):
        if message.reply_channel is None:
            raise ValueError(
                f"channel_session needs a message with a reply channel; this one, on {message.channel}, has none"
            )
        if message.event is None:
            raise ValueError(
                "channel_session is carried with the events of a socket (websocket.connect, receive and disconnect); "
                f"this message, on {message.channel}, is none"
            )
        message.channel_session = ChannelSession(message)
    try:
        yield
    finally:
        if message.channel_session.modified:
            message.channel_session.save()


def channel_session(func: F) -> F:
    """``message.channel_session`` for the consumer; saved when it was modified, also when the consumer raised.

    Raises ``ValueError`` for a message that is no event of a socket.
    """
    return _decorate(func, _open_channel_session, "channel_session")


def _decorate(func: F, opened: Callable[[Message], Any], name: str) -> F:
    wrapper: Any
    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with opened(message_of(args, name)):
                return await func(*args, **kwargs)

    else:

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with opened(message_of(args, name)):
                return func(*args, **kwargs)

    return wrapper  # type: ignore[no-any-return]


def prepared(func: F, prepare: Callable[[Message, bool], None], name: str) -> F:
    """``func`` with ``prepare(message, lazy)`` called before it, off the event loop when ``func`` is ``async``.

    ``lazy`` tells whether the consumer itself may ask the database: on an event loop it may not.
    """
    wrapper: Any
    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            await sync_to_async(prepare)(message_of(args, name), False)
            return await func(*args, **kwargs)

    else:

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            prepare(message_of(args, name), True)
            return func(*args, **kwargs)

    return wrapper  # type: ignore[no-any-return]


def _django_session(key: str | None) -> SessionBase | None:
    if key is None:
        return None
    session: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(session_key=key)
    return session


def _find_http_session(message: Message) -> SessionBase | None:
    """The session that the cookie of ``message`` names, or None. ``ValueError`` when it is not like a request."""
    from fastchannels.handler import HandshakeRequest

    try:
        message.content.setdefault("method", "FAKE")
        request = HandshakeRequest(message)
        key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
        # Off by default: a key in an address ends up in logs (D-21).
        if getattr(settings, "FASTCHANNELS_SESSION_KEY_IN_QUERY", False):
            key = request.GET.get("session_key", key)
    except Exception as error:
        raise ValueError(
            f"http_session cannot read the message on {message.channel} as a request: {type(error).__name__}: {error}"
        ) from error
    return _django_session(key)


def _unsaved(message: Message) -> SessionBase | None:
    session = message.http_session
    return session if session is not None and session.modified and not session.is_empty() else None


def _with_http_session(func: F, prepare: Callable[[Message], None], name: str) -> F:
    """Call ``prepare`` for the message, then ``func``; save ``message.http_session`` in every case (D-21)."""
    wrapper: Any
    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            message = message_of(args, name)
            prepare(message)
            try:
                return await func(*args, **kwargs)
            finally:
                if _unsaved(message) is not None:
                    await sync_to_async(_save_http_session)(message)

    else:

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            message = message_of(args, name)
            prepare(message)
            try:
                return func(*args, **kwargs)
            finally:
                _save_http_session(message)

    return wrapper  # type: ignore[no-any-return]


def _save_http_session(message: Message) -> None:
    session = _unsaved(message)
    if session is not None:
        session.save()


def _prepare_http_session(message: Message) -> None:
    if not hasattr(message, "http_session"):
        message.http_session = _find_http_session(message)


def http_session(func: F) -> F:
    """``message.http_session``: the session that the cookie names, None without one.

    For messages that carry headers: ``http.request`` and ``websocket.connect``. Saved when it was modified, also when
    the consumer raised. ``ValueError`` for a message that is not like a request.
    """
    return _with_http_session(func, _prepare_http_session, "http_session")


def _prepare_both(message: Message) -> None:
    _prepare_http_session(message)
    name = settings.SESSION_COOKIE_NAME
    if message.http_session is None:
        message.http_session = _django_session(message.channel_session.get(name))
    elif name not in message.channel_session:
        message.channel_session[name] = message.http_session.session_key


def channel_and_http_session(func: F) -> F:
    """Both sessions; the key of the http session is kept in the channel session.

    So ``message.http_session`` is also there for the later events of a socket, which carry no cookie (D-56).
    """
    return channel_session(_with_http_session(func, _prepare_both, "channel_and_http_session"))


@overload
def enforce_ordering(func: F) -> F: ...
@overload
def enforce_ordering(func: None = None, slight: bool = False) -> Callable[[F], F]: ...
def enforce_ordering(func: F | None = None, slight: bool = False) -> F | Callable[[F], F]:
    """A socket's events come one at a time anyway, so this only gives ``channel_session`` (D-09).

    ``slight=True`` warns, for the accept comes first by itself; with ``FASTCHANNELS_STRICT_1X`` it is a ``ValueError``
    as in 1.x (D-03). ``ValueError`` for a message without ``order``.
    """
    if slight:
        warn_slight_ordering("enforce_ordering(slight=True)")

    def decorator(func: F) -> F:
        return _decorate(func, _open_ordered, "enforce_ordering")

    return decorator if func is None else decorator(func)


def warn_slight_ordering(what: str) -> None:
    """The ``DeprecationWarning`` of D-03, or ``ValueError`` with ``FASTCHANNELS_STRICT_1X``."""
    text = f"{what} is not needed: a socket's events come in order, the connect first"
    if getattr(settings, "FASTCHANNELS_STRICT_1X", False):
        raise ValueError(text)
    warnings.warn(text, DeprecationWarning, stacklevel=3)


@contextmanager
def _open_ordered(message: Message) -> Iterator[None]:
    if "order" not in message:
        raise ValueError(f"enforce_ordering needs an event of a socket; the message on {message.channel} has no order")
    with _open_channel_session(message):
        yield
