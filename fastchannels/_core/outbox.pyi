import asyncio
from collections.abc import Callable
from typing import Any

from fastchannels._core.codec import Codec
from fastchannels._core.wake import Waiter

class Route:
    channel: str
    limit: int
    joined: bool
    own: bool
    shard: int
    def __init__(
        self,
        channel: str,
        digest: str,
        keys: tuple[str, ...],
        head: tuple[str | bytes | int | float, ...],
        start: bytes = b"",
        *,
        limit: int,
        joined: bool = False,
        shard: int = 0,
        own: bool = False,
    ) -> None: ...

class Batch:
    def __len__(self) -> int: ...
    def request(self) -> bytes | None: ...
    def settle(self, codes: bytes) -> None: ...
    def fail(self, error: Exception) -> None: ...

class Outbox:
    loop: asyncio.AbstractEventLoop | None
    batches: dict[str, Batch]
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None,
        begin: Callable[[], object],
        full: Callable[[Batch], object],
        *,
        most: int,
        most_bytes: int,
    ) -> None: ...
    def push(self, route: Route, payload: bytes) -> Waiter[int] | None: ...
    def clear(self) -> list[Batch]: ...

class Sender:
    routes: dict[str, Route]
    outboxes: dict[asyncio.AbstractEventLoop, tuple[Outbox, ...]]
    def __init__(self, codec: Codec) -> None: ...
    def push(self, channel: str, message: dict[str, Any]) -> Waiter[int] | None: ...
