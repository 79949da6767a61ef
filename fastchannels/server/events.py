"""What the sans-I/O halves report upward, and both bridges consume."""

from __future__ import annotations

from typing import TypeAlias

from fastchannels._core.http import BODY_END, BodyEnd, Request
from fastchannels.exceptions import HttpError

__all__ = ["BODY_END", "BodyEnd", "Headers", "HttpEvent", "Request"]

Headers: TypeAlias = list[tuple[bytes, bytes]]

#: A ``bytes`` is a piece of the body of the request before it; an ``HttpError`` is the last event of a connection.
HttpEvent: TypeAlias = "Request | bytes | BodyEnd | HttpError"
