"""A process on channels_redis: ``python -m tests.layers.redis.channels_redis_peer OPTIONS``.

Reads a call as a literal, ``(method, argument, ...)``, from each line and writes the literal of what it returned.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from ..waits import DEADLINE, soon


class ChannelsRedisPeer:
    """The other end of the pipe; ``await peer.call("send", "jobs", {})``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def call(self, *call: Any) -> Any:
        """What the method returned."""
        return await soon(asyncio.to_thread(self._exchange, call))

    def _exchange(self, call: tuple[Any, ...]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{call!r}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process on channels_redis ended"
        return ast.literal_eval(line)


@contextlib.contextmanager
def channels_redis_peer(**options: Any) -> Iterator[ChannelsRedisPeer]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, repr(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield ChannelsRedisPeer(process)
    finally:
        process.kill()
        process.wait(DEADLINE)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


async def serve(options: dict[str, Any]) -> None:
    from channels.exceptions import ChannelFull
    from channels_redis.core import RedisChannelLayer

    layer = RedisChannelLayer(**options)
    while line := await asyncio.to_thread(sys.stdin.readline):
        method, *arguments = ast.literal_eval(line)
        result: Any
        try:
            result = await asyncio.wait_for(getattr(layer, method)(*arguments), DEADLINE)
        except ChannelFull:
            result = "ChannelFull"
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        print(repr(result), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(ast.literal_eval(sys.argv[1])))
