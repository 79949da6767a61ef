import asyncio
from collections.abc import Generator
from typing import Any

from fastchannels._core.inbox import Inbox

class Take:
    def __init__(self, loop: asyncio.AbstractEventLoop, inbox: Inbox, channel: str) -> None: ...
    def __await__(self) -> Generator[Any, None, dict[str, Any]]: ...
