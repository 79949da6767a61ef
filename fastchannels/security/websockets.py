"""Origin checks: a page of another site may not open a socket with the cookies of this one.

A worker checks the origin of every ``websocket.connect`` by itself (:func:`refused_origin`), so that a route without a
decorator is safe as well. The decorators are for consumers that ask for more.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

from fastchannels import conf
from fastchannels.exceptions import DenyConnection
from fastchannels.message import Message
from fastchannels.sessions import message_of, prepared

__all__ = ["AllowedHostsOnlyOriginValidator", "BaseOriginValidator", "allowed_hosts_only"]

logger = logging.getLogger("fastchannels.worker")

F = TypeVar("F", bound=Callable[..., Any])
#: What Django allows with ``DEBUG`` and empty ``ALLOWED_HOSTS``.
_LOCAL: Final = (".localhost", "127.0.0.1", "[::1]")


def origin_of(message: Message) -> str | None:
    """The ``Origin`` of a handshake; None when there is none, or it is not ASCII."""
    for name, value in message["headers"]:
        if name == b"origin":
            try:
                return bytes(value).decode("ascii") or None
            except UnicodeDecodeError:
                return None
    return None


def host_allowed(origin: str) -> bool:
    """The host of ``origin`` is one of ``ALLOWED_HOSTS``, with or without the brackets of IPv6 (D-26)."""
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        return False
    if not host:
        return False
    allowed: Iterable[str] = settings.ALLOWED_HOSTS or (_LOCAL if settings.DEBUG else ())
    names = (f"[{host}]", host) if ":" in host else (host,)
    return any(validate_host(name, allowed) for name in names)


def refused_origin(message: Message) -> str | None:
    """Why the worker refuses the handshake ``message``; None when it may go to its consumer.

    A client that names no origin is no browser and carries no visitor's cookies by itself: it is let through.
    """
    if not getattr(settings, conf.SETTING_ORIGIN_CHECK, True):
        return None
    origins = [value for name, value in message.get("headers") or () if name == b"origin"]
    if not origins:
        return None
    origin = origin_of(message)
    if len(origins) == 1 and origin is not None and host_allowed(origin):
        return None
    return (
        f"origin {bytes(origins[0])!r} is not among ALLOWED_HOSTS = {settings.ALLOWED_HOSTS!r}: add its host there, or "
        f"set {conf.SETTING_ORIGIN_CHECK} = False and check it in the consumer"
    )


class BaseOriginValidator:
    """A decorator for the consumer of ``websocket.connect``: ``DenyConnection`` unless the origin is valid.

    A handshake without an origin is denied. Subclasses say in :meth:`validate_origin` what is valid. ``KeyError`` for
    a message without headers.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        functools.update_wrapper(self, func)
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Check the message among ``args``, then call the consumer."""
        self.check(message_of(args, type(self).__name__))
        return self.func(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: bound to its instance."""
        return self if instance is None else functools.partial(self, instance)

    def check(self, message: Message) -> None:
        """Raise ``DenyConnection`` for an origin that is not valid, and log it."""
        origin = origin_of(message)
        if origin is None or not self.validate_origin(message, origin):
            logger.warning("a socket of %s is refused: origin %r", message.get("path"), origin)
            raise DenyConnection

    def validate_origin(self, message: Message, origin: str) -> bool:
        """Whether pages of ``origin`` (such as ``https://example.org``) may open the socket."""
        raise NotImplementedError("subclasses of BaseOriginValidator define validate_origin(message, origin)")


class AllowedHostsOnlyOriginValidator(BaseOriginValidator):
    """Valid are the hosts of ``ALLOWED_HOSTS``."""

    def validate_origin(self, message: Message, origin: str) -> bool:
        """By the rules that Django has for the Host header."""
        return host_allowed(origin)


def allowed_hosts_only(func: F) -> F:
    """``DenyConnection`` for a handshake whose origin is missing or not among ``ALLOWED_HOSTS``."""
    validator = AllowedHostsOnlyOriginValidator(func)
    return prepared(func, lambda message, lazy: validator.check(message), "allowed_hosts_only")
