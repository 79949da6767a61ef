"""Sessions for consumers, as decorators of functions and methods, plain or ``async``.

``channel_session`` belongs to one socket: the protocol server keeps it, sends it with each of its events and takes
a changed one back with the acknowledgement, so it has one writer at a time and ends with the socket (design section 6).
With ``CHANNEL_SESSION_ENGINE`` an engine of Django keeps it instead, where others can read it too, and each event costs
the reads and writes of that engine. ``http_session`` is Django's session of the request.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import warnings
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar, overload

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.exceptions import ImproperlyConfigured

from fastchannels import conf
from fastchannels.exceptions import ConsumeLater, InvalidMessageError, MessageRangeError, MessageTooLarge
from fastchannels.layers.codec import Codec
from fastchannels.message import Message

__all__ = [
    "ChannelSession",
    "channel_and_http_session",
    "channel_session",
    "check_settings",
    "enforce_ordering",
    "http_session",
    "requeue_messages",
    "session_for_reply_channel",
    "wait_channel_name",
]

F = TypeVar("F", bound=Callable[..., Any])
_MISSING = object()


def check_settings() -> None:
    """Raise ``ValueError`` or ``ImproperlyConfigured`` for an engine that cannot keep channel sessions."""
    _engine()


def _engine() -> type[SessionBase] | None:
    """The engine of ``CHANNEL_SESSION_ENGINE``, None when sessions travel with the events."""
    name: str | None = getattr(settings, conf.SETTING_SESSION_ENGINE, None)
    if name is None:
        return None
    if name == "django.contrib.sessions.backends.signed_cookies":
        raise ValueError(f"{conf.SETTING_SESSION_ENGINE}: a socket's session cannot be kept in a cookie")
    try:
        store: type[SessionBase] = import_module(name).SessionStore
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"{conf.SETTING_SESSION_ENGINE} = {name!r}: {error}") from error
    return store


def session_for_reply_channel(reply_channel: str) -> SessionBase:
    """Django's session under the key of ``reply_channel``, by ``CHANNEL_SESSION_ENGINE`` or else ``SESSION_ENGINE``."""
    engine = _engine() or import_module(settings.SESSION_ENGINE).SessionStore
    digest = hashlib.sha1(reply_channel.encode(), usedforsecurity=False).hexdigest()
    session: SessionBase = engine(session_key=f"chn{digest[:29]}")
    return session


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


class _StoredSession:
    """A channel session in an engine of Django. Saving leaves the keys that this consumer did not touch alone."""

    def __init__(self, message: Message) -> None:
        assert message.reply_channel is not None
        self._name = message.reply_channel.name
        self.session = session_for_reply_channel(self._name)
        # A socket's session begins with its connect and ends with its disconnect: nothing else brings it back (D-10).
        opens = message.channel.name == "websocket.connect" or not self._name.startswith("websocket.send.")
        if opens and not _stored(self.session):
            try:
                self.session.save(must_create=True)
            except CreateError:
                # Another worker was first.
                raise ConsumeLater from None
        self._before: dict[str, Any] = copy.deepcopy(dict(self.session.items()))

    def save(self) -> None:
        """Save the changed keys, unless the socket, and the session with it, is gone."""
        after = dict(self.session.items())
        stored = session_for_reply_channel(self._name)
        if not _stored(stored):
            return
        for key in self._before.keys() - after.keys():
            stored.pop(key, None)
        for key, value in after.items():
            if key not in self._before or self._before[key] != value:
                stored[key] = value
        with suppress(UpdateError):
            stored.save(must_create=False)


def _stored(session: SessionBase) -> bool:
    return session.session_key is not None and session.exists(session.session_key)


def _begin_channel_session(message: Message) -> _StoredSession | None:
    if hasattr(message, "channel_session"):
        return None
    if message.reply_channel is None:
        raise ValueError(
            f"channel_session needs a message with a reply channel; this one, on {message.channel}, has none"
        )
    if _engine() is not None:
        stored = _StoredSession(message)
        message.channel_session = stored.session
        return stored
    if message.event is None:
        raise ValueError(
            "channel_session is carried with the events of a socket (websocket.connect, receive and disconnect); "
            f"this message, on {message.channel}, is none: set {conf.SETTING_SESSION_ENGINE} to have it everywhere"
        )
    message.channel_session = ChannelSession(message)
    return None


def _end_channel_session(message: Message, stored: _StoredSession | None) -> None:
    session = message.channel_session
    if stored is not None and message.channel.name == "websocket.disconnect":
        session.flush()
    elif session.modified:
        if stored is not None:
            stored.save()
        else:
            session.save()


def channel_session(func: F) -> F:
    """``message.channel_session`` for the consumer; saved when it was modified, also when the consumer raised.

    Raises ``ValueError`` for a message that is no event of a socket, unless ``CHANNEL_SESSION_ENGINE`` keeps sessions.
    """
    return _with_channel_session(func, "channel_session")


def _with_channel_session(func: F, name: str, check: Callable[[Message], None] | None = None) -> F:
    def begin(args: tuple[Any, ...]) -> tuple[Message, _StoredSession | None]:
        message = message_of(args, name)
        if check is not None:
            check(message)
        return message, _begin_channel_session(message)

    wrapper: Any
    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            # What travels with the event needs no thread.
            blocks = _engine() is not None
            message, stored = await sync_to_async(begin)(args) if blocks else begin(args)
            try:
                return await func(*args, **kwargs)
            finally:
                if blocks:
                    await sync_to_async(_end_channel_session)(message, stored)
                else:
                    _end_channel_session(message, stored)

    else:

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            message, stored = begin(args)
            try:
                return func(*args, **kwargs)
            finally:
                _end_channel_session(message, stored)

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
        if getattr(settings, conf.SETTING_SESSION_KEY_IN_QUERY, False):
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
        return _with_channel_session(func, "enforce_ordering", _check_ordered)

    return decorator if func is None else decorator(func)


def warn_slight_ordering(what: str) -> None:
    """The ``DeprecationWarning`` of D-03, or ``ValueError`` with ``FASTCHANNELS_STRICT_1X``."""
    text = f"{what} is not needed: a socket's events come in order, the connect first"
    if getattr(settings, conf.SETTING_STRICT_1X, False):
        raise ValueError(text)
    warnings.warn(text, DeprecationWarning, stacklevel=3)


def _check_ordered(message: Message) -> None:
    if "order" not in message:
        raise ValueError(f"enforce_ordering needs an event of a socket; the message on {message.channel} has no order")


def wait_channel_name(reply_channel: str) -> str:
    """Where 1.x put messages that came before their turn. Nothing of ours does; for code that names it."""
    return f"__wait__.{reply_channel.replace('!', '?')}"


def requeue_messages(message: Message) -> None:
    """Send what waits on the :func:`wait_channel_name` of ``message`` back to where it came from.

    Raises ``ChannelFull`` when there is no room; what had been sent then has been sent.
    """
    if message.reply_channel is None:
        raise ValueError(f"the message on {message.channel} has no reply channel: nothing waits for it")
    layer = message.channel_layer
    waiting = wait_channel_name(message.reply_channel.name)
    while True:
        _, content = layer.receive_many([waiting])
        if content is None:
            return
        layer.send(content.pop("original_channel"), content)
