"""A client that stands for a browser with a socket: cookies, headers, a session and a login."""

from __future__ import annotations

import copy
import json as json_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.cookie import SimpleCookie

from fastchannels import DEFAULT_CHANNEL_LAYER
from fastchannels.message import Message
from fastchannels.sessions import session_for_reply_channel
from fastchannels.test.base import Client

__all__ = ["WSClient"]


class WSClient(Client):
    """With ``ordered``, messages carry their number. One session of Django is both its http and its channel session."""

    def __init__(self, ordered: bool = False, alias: str = DEFAULT_CHANNEL_LAYER) -> None:
        super().__init__(alias)
        self._ordered = ordered
        self._session: SessionBase | None = None
        self._headers: dict[str, Any] = {}
        self._cookies: dict[str, str] = {}
        #: The cookie of the session goes with the first message, the handshake.
        self._session_cookie = True
        self.order = 0

    # ------------------------------------------------------------------ what a browser brings along

    def set_cookie(self, key: str, value: str) -> None:
        """Send a cookie with each message."""
        self._cookies[key] = value

    def set_header(self, key: str, value: Any) -> None:
        """Send a header with each message. ``ValueError`` for cookies: use :meth:`set_cookie`."""
        if key.lower() == "cookie":
            raise ValueError("use set_cookie() for cookies")
        self._headers[key] = value

    def get_cookies(self) -> dict[str, str]:
        """The cookies of the next message."""
        cookies = dict(self._cookies)
        if self._session_cookie and apps.is_installed("django.contrib.sessions"):
            assert self.session.session_key is not None
            cookies[settings.SESSION_COOKIE_NAME] = self.session.session_key
        return cookies

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the next message; what a value is, it stays."""
        headers = copy.deepcopy(self._headers)
        headers.setdefault("cookie", _encoded(self.get_cookies()))
        return headers

    @property
    def session(self) -> SessionBase:
        """The session of our reply channel. ``ImproperlyConfigured`` without ``django.contrib.sessions``."""
        if not apps.is_installed("django.contrib.sessions"):
            raise ImproperlyConfigured("add django.contrib.sessions to INSTALLED_APPS to use a session")
        if self._session is None:
            self._session = session_for_reply_channel(self.reply_channel)
            if not self._session.exists(str(self._session.session_key)):
                self._session.save(must_create=True)
        return self._session

    def login(self, **credentials: Any) -> bool:
        """Log in; False when the credentials are wrong or the user is inactive."""
        from django.contrib.auth import authenticate

        user = authenticate(**credentials)
        if user is None or not user.is_active:
            return False
        self._login(user)
        return True

    def force_login(self, user: Any, backend: str | None = None) -> None:
        """Log ``user`` in without credentials."""
        user.backend = backend or settings.AUTHENTICATION_BACKENDS[0]
        self._login(user)

    def _login(self, user: Any) -> None:
        from django.contrib.auth import login

        request = HttpRequest()
        request.session = self.session
        login(request, user)
        self.session.save()

    # ------------------------------------------------------------------ messages

    def send(self, to: str, content: dict[str, Any] | None = None, text: Any = None, path: str = "/") -> None:
        """Send a message as a protocol server would: with path, headers, and ``text`` (JSON unless it is a str).

        ``path`` may carry a query string, which goes with ``websocket.connect`` only.
        """
        self.channel_layer.send(to, self._filled(to, copy.deepcopy(content or {}), text, path))
        self._session_cookie = False

    def _filled(self, to: str, content: dict[str, Any], text: Any, path: str) -> dict[str, Any]:
        path, mark, query = path.partition("?")
        content.setdefault("reply_channel", self.reply_channel)
        content.setdefault("path", path)
        if mark and to == "websocket.connect":
            content.setdefault("query_string", query)
        content.setdefault("headers", self.headers)
        if self._ordered:
            if "order" in content:
                raise ValueError("a client with ordered=True numbers its messages itself: leave 'order' out")
            content["order"] = self.order
            self.order += 1
        text = content.get("text") if text is None else text
        if text is not None:
            content["text"] = text if isinstance(text, str) else json_module.dumps(text)
        return content

    def receive(self, json: bool = True) -> Any:
        """The next reply: its ``text``, decoded unless ``json`` is false; the whole message without one; or None."""
        content = super().receive()
        if not content or "text" not in content:
            return content
        text = content["text"]
        return json_module.loads(text) if json and isinstance(text, str) else text

    def consume(self, channel: str, fail_on_none: bool = True, check_accept: bool = True) -> Any:
        """Run the consumer of the next message on ``channel``.

        After ``websocket.connect`` the next reply must be the accept, which is taken off; ``AssertionError`` if not.
        """
        result = super().consume(channel, fail_on_none)
        if channel == "websocket.connect" and check_accept:
            received = self.receive(json=False)
            if received != {"accept": True}:
                raise AssertionError(f"the socket was not accepted: {received!r} came in place of {{'accept': True}}")
        return result

    def send_and_consume(  # type: ignore[override]  # the positions of 1.x
        self,
        channel: str,
        content: dict[str, Any] | None = None,
        text: Any = None,
        path: str = "/",
        fail_on_none: bool = True,
        check_accept: bool = True,
    ) -> Any:
        """:meth:`send`, then :meth:`consume`."""
        self.send(channel, content, text, path)
        return self.consume(channel, fail_on_none, check_accept)

    def _carry(self, message: Message) -> None:
        super()._carry(message)
        if message.event is not None and apps.is_installed("django.contrib.sessions"):
            # A test reads and prepares it here, where 1.x kept it.
            message.channel_session = self.session


def _encoded(cookies: dict[str, str]) -> bytes:
    encoder: SimpleCookie = SimpleCookie()
    for key, value in cookies.items():
        encoder[key] = value
    return encoder.output(header="", sep=";").strip().encode("ascii")
