"""Messages of ``http.request`` to Django's views, and their responses back to messages."""

from __future__ import annotations

import codecs
import io
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.handlers import base
from django.core.signals import got_request_exception, request_started
from django.http import FileResponse, HttpRequest, HttpResponse, QueryDict, parse_cookie
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix
from django.utils.functional import cached_property

from fastchannels import exceptions
from fastchannels.exceptions import ChannelFull, RequestAborted, RequestTimeout
from fastchannels.message import Message, pending_message_store

__all__ = ["AsgiHandler", "AsgiRequest", "ViewConsumer"]

logger = logging.getLogger("django.request")
worker_logger = logging.getLogger("fastchannels.worker")

#: Seconds between two tries to put a response on a full reply channel.
RESPONSE_PAUSE = 0.05


class AsgiRequest(HttpRequest):
    """Django's request from a message of ``http.request``, or of a handshake.

    Raises ``RequestTimeout`` or ``RequestAborted`` when the body does not arrive, ``KeyError`` for a message without
    ``path`` or ``method``, ``UnicodeDecodeError`` for a query string that is not UTF-8.
    """

    #: Raised in a view: another consumer answers on ``request.reply_channel``.
    ResponseLater = exceptions.ResponseLater

    #: Seconds for the whole body.
    body_receive_timeout = 60

    def __init__(self, message: Message) -> None:
        self.message = message
        self.reply_channel = message.reply_channel
        #: Set when something raised ``ResponseLater``.
        self.response_later = False
        self._post_parse_error = False
        self._read_started = False
        self.resolver_match = None
        self.path = message.content["path"]
        self.script_name = _script_name(message)
        self.path_info = _without_prefix(self.path, self.script_name)
        self.method = message.content["method"].upper()
        query_string = message.get("query_string") or b""
        if isinstance(query_string, bytes):
            query_string = query_string.decode()
        self.META = {
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": query_string,
            "SCRIPT_NAME": self.script_name,
            "PATH_INFO": self.path_info,
            # Code written for WSGI asks for these.
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "SERVER_NAME": "unknown",
            "SERVER_PORT": "0",
        }
        if client := message.get("client"):
            self.META.update(REMOTE_ADDR=client[0], REMOTE_HOST=client[0], REMOTE_PORT=client[1])
        if server := message.get("server"):
            self.META.update(SERVER_NAME=server[0], SERVER_PORT=str(server[1]))
        self.META.update(_headers(message.get("headers") or []))
        self._set_encoding()
        self._stream = self._read_body()

    def _set_encoding(self) -> None:
        # Sets content_type, content_params and, for a charset that Python knows, encoding.
        self._set_content_type_params(self.META)  # type: ignore[attr-defined]
        charset = self.content_params.get("charset") if self.content_params else None
        if charset:
            try:
                codecs.lookup(charset)
            except LookupError:
                return
            self.encoding = charset

    def _read_body(self) -> Any:
        """The whole body. In pieces, it is in memory up to ``FILE_UPLOAD_MAX_MEMORY_SIZE`` and then in a file."""
        message = self.message
        body = message.get("body") or b""
        body_channel = message.get("body_channel")
        if not body_channel:
            return io.BytesIO(body)
        # Closed by close(), which the response calls.
        stream = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE, mode="w+b", dir=settings.FILE_UPLOAD_TEMP_DIR
        )
        try:
            stream.write(body)
            self._receive_body(body_channel, stream)
        except BaseException:
            stream.close()
            raise
        stream.seek(0)
        return stream

    def _receive_body(self, body_channel: str, stream: tempfile.SpooledTemporaryFile[bytes]) -> None:
        deadline = time.monotonic() + self.body_receive_timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise RequestTimeout(f"the body did not arrive within {self.body_receive_timeout} s")
            _, chunk = self.message.channel_layer.receive_many([body_channel], block=True, timeout=left)
            if chunk is None:
                continue
            if chunk.get("closed"):
                raise RequestAborted("the client left while it sent the body")
            stream.write(chunk["content"])
            if not chunk.get("more_content", False):
                return

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]
        """The query string."""
        return QueryDict(self.META["QUERY_STRING"], encoding=self.encoding)

    def _get_scheme(self) -> str:
        return self.message.get("scheme") or "http"

    def _get_post(self) -> QueryDict:
        if not hasattr(self, "_post"):
            self._load_post_and_files()
        return self._post

    def _set_post(self, post: QueryDict) -> None:
        self._post = post

    def _get_files(self) -> Any:
        if not hasattr(self, "_files"):
            self._load_post_and_files()
        return self._files  # type: ignore[attr-defined]

    POST = property(_get_post, _set_post)
    FILES = property(_get_files)

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]
        """The cookies."""
        return parse_cookie(self.META.get("HTTP_COOKIE", ""))

    def close(self) -> None:
        """Release uploaded files and the body."""
        super().close()
        self._stream.close()


def _script_name(message: Message) -> str:
    # As everywhere in Django, the setting wins over what the server says.
    return settings.FORCE_SCRIPT_NAME or message.get("root_path") or ""


class HandshakeRequest(AsgiRequest):
    """A request whose body is left where it is: for messages of ``http.request`` that a view still has to read."""

    def _read_body(self) -> Any:
        return io.BytesIO()


def _without_prefix(path: str, prefix: str) -> str:
    """``path`` below ``prefix``, which must end where a segment ends (D-27): /app is no prefix of /apple."""
    prefix = prefix.rstrip("/")
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :]
    return path


def _headers(pairs: Any) -> dict[str, str]:
    """The headers under their names in META. Repeated ones are joined: cookies by "; ", others by "," (D-27)."""
    meta: dict[str, str] = {}
    for raw_name, raw_value in pairs.items() if isinstance(pairs, dict) else pairs:
        name = raw_name.decode("latin-1") if isinstance(raw_name, bytes) else raw_name
        if "_" in name:
            # It would be mistaken for the header with a dash, which a proxy may have checked (D-61).
            continue
        value = raw_value.decode("latin-1") if isinstance(raw_value, bytes) else raw_value
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            key = f"HTTP_{key}"
        if key in meta:
            value = f"{meta[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
        meta[key] = value
    return meta


class _LaterResponse(HttpResponse):
    """What passes through the middleware after ``ResponseLater``; it is never sent."""


class AsgiHandler(base.BaseHandler):
    """Runs Django for a message of ``http.request``; calling it yields the messages of the response."""

    #: Bytes of content in one message.
    chunk_size = 512 * 1024
    request_class = AsgiRequest

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()

    def __call__(self, message: Message) -> Iterator[dict[str, Any]]:
        """Yield the messages of the response; none when the client left or ``ResponseLater`` was raised."""
        set_script_prefix(_script_name(message) or "/")
        request_started.send(sender=type(self), message=message)
        try:
            request = self.request_class(message)
        except UnicodeDecodeError:
            logger.warning("Bad request (the query string is not UTF-8): %s", message.get("path"))
            response: HttpResponseBase = _plain(400, "Bad Request")
        except RequestTimeout as error:
            logger.warning("Request timeout: %s: %s", message.get("path"), error)
            response = _plain(408, "Request Timeout")
        except RequestAborted:
            return
        else:
            try:
                response = self.respond(request)
            except Exception:
                request.close()
                logger.exception("the handler of %s failed", message.get("path"))
                response = server_error()
            else:
                response._resource_closers.append(request.close)  # type: ignore[attr-defined]
                if request.response_later:
                    response.close()
                    return
        response._handler_class = type(self)  # type: ignore[attr-defined]
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        try:
            yield from self.encode_response(response)
        finally:
            # Also when the caller gives the response up.
            response.close()

    def respond(self, request: AsgiRequest) -> HttpResponseBase:
        """The response of Django."""
        return self.get_response(request)

    def process_exception_by_middleware(
        self, exception: Exception, request: HttpRequest
    ) -> HttpResponse:  # the base class says so, and gives None as well
        """``ResponseLater`` is no error: the view has promised an answer by other means."""
        if isinstance(exception, exceptions.ResponseLater):
            request.response_later = True  # type: ignore[attr-defined]
            return _LaterResponse()
        return super().process_exception_by_middleware(exception, request)

    @classmethod
    def encode_response(cls, response: HttpResponseBase) -> Iterator[dict[str, Any]]:
        """Yield ``response`` as messages: the first with status and headers, each with 512 KiB of content at most."""
        # Lowercase names, as the message format wants (D-64).
        headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        headers += [
            (b"set-cookie", cookie.output(header="").strip().encode("latin-1")) for cookie in response.cookies.values()
        ]
        start: dict[str, Any] = {"status": response.status_code, "headers": headers}
        if response.streaming:
            for part in response:
                for chunk, _ in cls.chunk_bytes(part):
                    yield {**start, "content": chunk, "more_content": True}
                    start = {}
            yield {**start, "more_content": False}
        else:
            content: bytes = response.content  # type: ignore[attr-defined]
            for chunk, last in cls.chunk_bytes(content):
                yield {**start, "content": chunk, "more_content": not last}
                start = {}

    @classmethod
    def chunk_bytes(cls, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield pieces of ``data`` and whether each is the last; one empty piece for no data."""
        size = cls.chunk_size
        for start in range(0, len(data) or 1, size):
            yield data[start : start + size], start + size >= len(data)


def _later(sender: Any, request: Any = None, **kwargs: Any) -> None:
    # Middleware that raises gets Django's error page; this notes that the page is not to be sent.
    if isinstance(request, AsgiRequest) and isinstance(sys.exc_info()[1], exceptions.ResponseLater):
        request.response_later = True


got_request_exception.connect(_later)


def _plain(status: int, text: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")


def server_error() -> HttpResponse:
    """A 500 for the exception that is being handled: with ``DEBUG``, its traceback as text."""
    return _plain(500, traceback.format_exc() if settings.DEBUG else "Internal Server Error")


class ViewConsumer:
    """The consumer of ``http.request`` that runs Django's views and sends the response at once."""

    handler_class = AsgiHandler

    def __init__(self) -> None:
        self.handler = self.handler_class()

    def __call__(self, message: Message) -> None:
        """Answer ``message``. A response that finds no room for the layer's ``expiry`` is given up (D-15)."""
        replies = self.handler(message)
        try:
            self._send(message, replies)
        finally:
            if isinstance(replies, Iterator) and hasattr(replies, "close"):
                replies.close()

    def _send(self, message: Message, replies: Iterable[dict[str, Any]]) -> None:
        reply_channel = message.reply_channel
        frame = pending_message_store.frame
        for reply in replies:
            if reply_channel is None:
                worker_logger.error("the response to %s has no reply channel", message.get("path"))
                return
            if frame is not None and frame.replies is not None and "status" in reply and not reply.get("more_content"):
                # Whole, so nothing is on its channel: it leaves with those of other requests.
                frame.answered = True
                frame.replies.add(reply_channel.name, reply)
                return
            deadline = time.monotonic() + message.channel_layer.expiry
            while True:
                try:
                    reply_channel.send(reply, immediately=True)
                    break
                except ChannelFull:
                    if time.monotonic() >= deadline:
                        worker_logger.warning(
                            "the response to %s was given up: its client took nothing for %s s",
                            message.get("path"),
                            message.channel_layer.expiry,
                        )
                        return
                    time.sleep(RESPONSE_PAUSE)


def default_consumer(static: bool = True, insecure: bool = False) -> ViewConsumer:
    """The consumer of ``http.request`` for a worker.

    It serves static files too when ``static`` is true, staticfiles is installed, and ``DEBUG`` or ``insecure`` is set.
    """
    from django.apps import apps

    if static and apps.is_installed("django.contrib.staticfiles") and (settings.DEBUG or insecure):
        from fastchannels.staticfiles import StaticFilesConsumer

        return StaticFilesConsumer()
    return ViewConsumer()
