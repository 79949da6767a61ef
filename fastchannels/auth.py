"""Django's users for consumers, as decorators of functions and methods, plain or ``async``.

They set ``message.user``. For a plain consumer it is loaded when it is first looked at, so an event whose consumer does
not ask for its user costs no query; for an ``async def`` consumer it is loaded before.

A socket that a logged-in user opened closes when the session is logged out, or its user is kicked.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TypeVar

from django.contrib import auth
from django.contrib.auth.signals import user_logged_out
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from fastchannels import DEFAULT_CHANNEL_LAYER
from fastchannels.asgi import channel_layers
from fastchannels.channel import Group
from fastchannels.exceptions import check_close_code
from fastchannels.message import Message
from fastchannels.sessions import channel_and_http_session, channel_session, http_session, prepared

__all__ = [
    "channel_and_http_session_user_from_http",
    "channel_session_user",
    "channel_session_user_from_http",
    "http_session_user",
    "kick",
    "transfer_user",
]

logger = logging.getLogger("fastchannels.worker")

F = TypeVar("F", bound=Callable[..., Any])
#: The close code of a socket whose user may not go on (registered with IANA).
UNAUTHORIZED: Final = 3000
#: What ``django.contrib.auth.login`` leaves in a session.
_KEYS = (auth.SESSION_KEY, auth.BACKEND_SESSION_KEY, auth.HASH_SESSION_KEY)


def transfer_user(from_session: Any, to_session: MutableMapping[str, Any] | Any) -> None:
    """Copy the logged-in user, when there is one, from one session to another."""
    if all(key in from_session for key in _KEYS):
        for key in _KEYS:
            to_session[key] = from_session[key]


def channel_session_user(func: F) -> F:
    """``message.user`` from the channel session, ``AnonymousUser`` without one; ``message.channel_session`` too."""
    return channel_session(prepared(func, _user_of("channel_session"), "channel_session_user"))


def http_session_user(func: F) -> F:
    """``message.user`` from the session that the cookie names; ``message.http_session`` too."""
    return http_session(prepared(func, _user_of("http_session"), "http_session_user"))


def channel_session_user_from_http(func: F) -> F:
    """For ``websocket.connect``: the user of the http session, who is put into the channel session for later events."""
    return http_session_user(channel_session(prepared(func, _transfer, "channel_session_user_from_http")))


def channel_and_http_session_user_from_http(func: F) -> F:
    """The same for every event of a socket: ``message.http_session`` is restored from the channel session."""
    name = "channel_and_http_session_user_from_http"
    return channel_and_http_session(prepared(prepared(func, _transfer, name), _user_of("http_session"), name))


def kick(user: Any, code: int = UNAUTHORIZED, alias: str = DEFAULT_CHANNEL_LAYER) -> None:
    """Close every socket of ``user`` (or of the primary key ``user``), on all servers, with ``code``.

    These are the sockets whose connect knew the user: by a decorator that reads the http session, or by a ticket.
    ``ValueError`` for a code that an application may not send.
    """
    check_close_code(code)
    _close(_group("user", getattr(user, "pk", user)), code, alias)


def remember_socket(message: Message, user_key: str, session_key: str | None = None) -> None:
    """Let :func:`kick`, and the end of its session, find the socket of ``message``. It is forgotten with the socket."""
    assert message.reply_channel is not None
    for kind, key in (("user", user_key), ("session", session_key)):
        if key is not None:
            Group(_group(kind, key), channel_layer=message.channel_layer).add(message.reply_channel)


def _group(kind: str, key: Any) -> str:
    # Keys may be of any kind and length, and one of a session is a secret.
    return f"fastchannels.{kind}.{hashlib.sha256(str(key).encode()).hexdigest()[:32]}"


def _close(group: str, code: int, alias: str) -> None:
    Group(group, alias).send({"close": code}, immediately=True)


def _logged_out(sender: Any, request: Any, **kwargs: Any) -> None:
    """Close the sockets that were opened with the session that ends here."""
    key = getattr(request.session, "session_key", None)
    if key is None:
        return
    for alias in channel_layers.configs:
        try:
            _close(_group("session", key), UNAUTHORIZED, alias)
        except Exception:
            # The logout itself must not fail: the layer may be away, or lack a package.
            logger.exception("the sockets of a session that was logged out stay open")


user_logged_out.connect(_logged_out)


def load_user(session: Any) -> Any:
    """The user of ``session``, ``AnonymousUser`` without one. It asks the database."""
    if session is None:
        # Not at the top: its module needs django.contrib.auth to be installed, which class consumers do not.
        from django.contrib.auth.models import AnonymousUser

        return AnonymousUser()
    request = HttpRequest()
    request.session = session
    return auth.get_user(request)


def _user_of(attribute: str) -> Callable[[Message, bool], None]:
    def prepare(message: Message, lazy: bool) -> None:
        if hasattr(message, "user"):
            return
        session = getattr(message, attribute)
        message.user = SimpleLazyObject(lambda: load_user(session)) if lazy else load_user(session)

    return prepare


def _transfer(message: Message, lazy: bool) -> None:
    session = message.http_session
    if session is None:
        return
    transfer_user(session, message.channel_session)
    if message.channel.name == "websocket.connect" and auth.SESSION_KEY in session:
        remember_socket(message, session[auth.SESSION_KEY], session.session_key)
