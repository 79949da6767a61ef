"""The old name of the client for sockets."""

from __future__ import annotations

import warnings
from typing import Any

from fastchannels.test.websocket import WSClient

__all__ = ["HttpClient"]


class HttpClient(WSClient):
    """:class:`~fastchannels.test.websocket.WSClient`, with a ``DeprecationWarning``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("HttpClient is called WSClient now", DeprecationWarning, stacklevel=2)
        super().__init__(*args, **kwargs)
