"""The access log: the lines of Daphne (server.md section 6), or an object of JSON a line."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import IO, Any, Final

_WEBSOCKET: Final = {
    "connecting": "WSCONNECTING",
    "connected": "WSCONNECT",
    "rejected": "WSREJECT",
    "disconnected": "WSDISCONNECT",
}
MASKED: Final = "***"


class Mask:
    """Replaces the values of query parameters that have one of ``names``, in any case."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {name.lower() for name in names}

    def __call__(self, query: str) -> str:
        """``query`` without its secrets."""
        if not self._names:
            return query
        parts = re.split("([&;])", query)  # some frameworks take ; for &
        return "".join(self._hide(part) for part in parts)

    def _hide(self, pair: str) -> str:
        name, equals, _ = pair.partition("=")
        plain = urllib.parse.unquote_plus(name) if "%" in name or "+" in name else name
        return f"{name}={MASKED}" if equals and plain.strip().lower() in self._names else pair


class AccessLog:
    """An action logger that writes a line to ``stream`` for each event, with ``mask`` over the query string."""

    def __init__(self, stream: IO[str], mask: Callable[[str], str]) -> None:
        self._stream = stream
        self._mask = mask

    def __call__(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        raise NotImplementedError


class DaphneLog(AccessLog):
    """``client - - [local time, no zone] "request" status size``; a websocket's query string is left out."""

    _second = -1
    _when = ""

    def __call__(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        if protocol == "http" and action == "complete":
            path = details["path"]
            if "?" in path:
                path, _, query = path.partition("?")
                path = f"{path}?{self._mask(query)}"
            self._write(details["client"], f"{details['method']} {path}", details["status"], details["size"] or "-")
        elif protocol == "websocket" and action in _WEBSOCKET:
            self._write(details["client"], f"{_WEBSOCKET[action]} {details['path']}", "-", "-")

    def _write(self, client: str | None, request: str, status: Any, size: Any) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._when = time.strftime("%d/%b/%Y:%H:%M:%S", time.localtime(second))
        self._stream.write(f'{client} - - [{self._when}] "{request}" {status} {size}\n')


class JsonLog(AccessLog):
    """One object a line. ``event`` is "request" or what happened to a websocket; ``duration`` is in seconds.

    Keys that say nothing about an event are left out of its object.
    """

    def __call__(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        if protocol == "websocket":
            event = {"event": action, "path": details["path"], "query": details.get("query", "")}
            event |= {"code": details["code"]} if "code" in details else {}
        else:
            path, _, query = details["path"].partition("?")
            event = {"event": "request", "method": details["method"], "path": path, "query": query}
            event |= {"status": details["status"], "bytes": details["size"]}
        event["query"] = self._mask(event["query"])
        if "time_taken" in details:
            event["duration"] = round(details["time_taken"], 6)
        when = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": when, "protocol": protocol, "client": details["client"], **event}
        self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")


FORMATS: Final[dict[str, type[AccessLog]]] = {"daphne": DaphneLog, "json": JsonLog}
