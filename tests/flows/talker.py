"""A WebSocket client that speaks the chat's frames, for the tests without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Frame = dict[str, Any]


class Talker:
    """One person in a room."""

    def __init__(self, socket: ClientConnection, name: str) -> None:
        self.socket, self.name = socket, name
        self._refs = itertools.count()

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def next(self, timeout: float = 15) -> Frame:
        """The next frame, whatever it is."""
        frame: Frame = json.loads(await asyncio.wait_for(self.socket.recv(), timeout))
        return frame

    async def hear(self, timeout: float = 15, **wanted: Any) -> Frame:
        """The next frame that has all of ``wanted``; others are passed over."""

        async def listen() -> Frame:
            while True:
                frame: Frame = json.loads(await self.socket.recv())
                if wanted.items() <= frame.items():
                    return frame

        return await asyncio.wait_for(listen(), timeout)

    async def until_closed(self, timeout: float = 30) -> int | None:
        """Pass over what comes until the other end closes; the close code, ``None`` when it sent none."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.next(timeout)
        return self.socket.close_code

    async def say(self, text: str) -> str:
        """Send a message; its ref comes back with it."""
        ref = f"{self.name}-{next(self._refs)}"
        await self.send(type="message", text=text, ref=ref)
        return ref


@asynccontextmanager
async def talker(port: int, name: str, room: str = "lobby") -> AsyncIterator[Talker]:
    """Someone who has joined ``room`` and heard of it."""
    address = f"ws://127.0.0.1:{port}/chat/{room}/"
    options: dict[str, Any] = {"origin": f"http://127.0.0.1:{port}", "open_timeout": 15, "proxy": None}
    # Without max_queue=None the client stops reading at 16 frames that nobody asked for, the closing one among them.
    async with connect(address, max_queue=None, **options) as socket:
        person = Talker(socket, name)
        await person.send(type="hello", name=name)
        await person.hear(type="welcome", name=name)
        await person.hear(type="join", name=name)
        yield person
