"""Tickets for clients without cookies: an app, a device, a page of another site.

A view that has authenticated its user gives out :func:`make_ticket`; the client opens its socket with ``?ticket=...``
at once, and :func:`ticket_user` on the consumer of ``websocket.connect`` knows the user. A ticket is good for
``FASTCHANNELS_TICKET_AGE`` seconds, and until the user's password changes; it opens any number of sockets meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib import auth
from django.core import signing

from fastchannels import conf
from fastchannels.auth import load_user, remember_socket
from fastchannels.exceptions import DenyConnection
from fastchannels.message import Message
from fastchannels.sessions import channel_session, prepared

__all__ = ["make_ticket", "ticket_user", "user_of_ticket"]

logger = logging.getLogger("fastchannels.worker")

F = TypeVar("F", bound=Callable[..., Any])
_SALT: Final = "fastchannels.security.tickets"


def make_ticket(user: Any) -> str:
    """A ticket for ``user``, fit for a query string. ``ValueError`` for a user who is not logged in."""
    if not user.is_authenticated:
        raise ValueError("a ticket is for a user who is logged in")
    backend = getattr(user, "backend", None) or settings.AUTHENTICATION_BACKENDS[0]
    return signing.dumps([str(user.pk), backend, user.get_session_auth_hash()], salt=_SALT)


def user_of_ticket(ticket: str) -> Any:
    """The user who was given ``ticket``; None when it is too old, not ours, or its user cannot log in any more."""
    session = _session_of(ticket)
    return None if session is None else _user(session)


def ticket_user(func: F) -> F:
    """For ``websocket.connect``: ``message.user`` by the ticket in the query string; ``DenyConnection`` without one.

    The channel session remembers the user: ``channel_session_user`` gives it at the later events.
    """
    return channel_session(prepared(func, _admit, "ticket_user"))


def _session_of(ticket: str) -> dict[str, str] | None:
    """What a login would leave in a session."""
    age = getattr(settings, conf.SETTING_TICKET_AGE, conf.TICKET_AGE)
    try:
        key, backend, auth_hash = signing.loads(ticket, salt=_SALT, max_age=age)
    except signing.BadSignature:
        return None
    return {auth.SESSION_KEY: key, auth.BACKEND_SESSION_KEY: backend, auth.HASH_SESSION_KEY: auth_hash}


def _user(session: Any) -> Any:
    user = load_user(_Flushable(session))
    return user if user.is_authenticated and user.is_active else None


class _Flushable(dict[str, str]):
    """Django throws the session of a user away whose password has changed."""

    def flush(self) -> None:
        self.clear()


def _admit(message: Message, lazy: bool) -> None:
    query = message.get("query_string") or b""
    tickets = parse_qs(query if isinstance(query, str) else query.decode("ascii", "replace")).get("ticket", [])
    session = _session_of(tickets[0]) if len(tickets) == 1 else None
    user = None if session is None else _user(session)
    if session is None or user is None:
        logger.warning("a socket of %s is refused: its ticket is missing, too old or not valid", message.get("path"))
        raise DenyConnection
    message.channel_session.update(session)
    message.user = user
    remember_socket(message, session[auth.SESSION_KEY])
