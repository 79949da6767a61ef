"""The access log, in the lines of Daphne (server.md section 6)."""

from __future__ import annotations

import time
from typing import IO, Any

_WEBSOCKET = {
    "connecting": "WSCONNECTING",
    "connected": "WSCONNECT",
    "rejected": "WSREJECT",
    "disconnected": "WSDISCONNECT",
}


class AccessLog:
    """An action logger that writes a line for each event to ``stream``: local time, no zone."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __call__(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        if protocol == "http" and action == "complete":
            self._write(details, f"{details['method']} {details['path']}", str(details["status"]), details["size"])
        elif protocol == "websocket" and action in _WEBSOCKET:
            self._write(details, f"{_WEBSOCKET[action]} {details['path']}", "-", 0)

    def _write(self, details: dict[str, Any], request: str, status: str, size: int) -> None:
        when = time.strftime("%d/%b/%Y:%H:%M:%S")
        self._stream.write(f'{details["client"]} - - [{when}] "{request}" {status} {size or "-"}\n')
