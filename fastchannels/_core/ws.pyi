from typing import Literal, TypeAlias

from typing_extensions import Self

from fastchannels.exceptions import WebSocketError

_Event: TypeAlias = tuple[Literal[1], str] | tuple[Literal[2, 9, 10], bytes] | tuple[Literal[8], tuple[int | None, str]]

class FrameParser:
    @property
    def error(self) -> WebSocketError | None: ...
    def __new__(
        cls, max_message_size: int = ..., max_frame_size: int = 0, server: bool = True, deflate: int = 0
    ) -> Self: ...
    def feed(self, data: bytes | bytearray | memoryview) -> list[_Event]: ...

def frame(
    opcode: int, payload: str | bytes | bytearray | memoryview = b"", fin: bool = True, key: bytes | None = None
) -> bytes: ...
def frame_header(opcode: int, length: int, fin: bool = True, key: bytes | None = None) -> bytes: ...
def close_code_valid(code: int) -> bool: ...
