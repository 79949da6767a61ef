"""Django's users for consumers, as decorators of functions and methods, plain or ``async``.

They set ``message.user``. For a plain consumer it is loaded when it is first looked at, so an event whose consumer does
not ask for its user costs no query; for an ``async def`` consumer it is loaded before.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from fastchannels.message import Message
from fastchannels.sessions import channel_and_http_session, channel_session, http_session, prepared

__all__ = [
    "channel_and_http_session_user_from_http",
    "channel_session_user",
    "channel_session_user_from_http",
    "http_session_user",
    "transfer_user",
]

F = TypeVar("F", bound=Callable[..., Any])
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


def load_user(session: Any) -> Any:
    """The user of ``session``, ``AnonymousUser`` without one. It asks the database."""
    if session is None:
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
    if message.http_session is not None:
        transfer_user(message.http_session, message.channel_session)
