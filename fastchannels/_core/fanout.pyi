from collections.abc import Callable
from typing import Any

from fastchannels._core.queue import Receiver
from fastchannels._core.socket import FrameStream

class Fanout:
    def __init__(self, typed: bool = False) -> None: ...
    def frame_of(self, message: dict[str, Any], payload: str | bytes, deflate: int) -> bytes: ...

class Member(Receiver):
    def __init__(
        self, stream: FrameStream, fanout: Fanout, otherwise: Callable[[dict[str, Any]], None] | None = None
    ) -> None: ...
