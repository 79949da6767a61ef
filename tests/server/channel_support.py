"""Channel mode against a real in-memory layer; the workers are coroutines that receive, answer and acknowledge."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import websockets

from fastchannels.envelope import ACK, EVENT, REPLIES, SESSION
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.memory import InMemoryChannelLayer
from tests.server.support import DEADLINE, port_of


class Layer(InMemoryChannelLayer):
    """The in-memory layer with a switch that makes its store unreachable."""

    down = False

    async def send(self, channel, message, **options):
        if self.down:
            raise LayerUnavailable("the store is away")
        await super().send(channel, message, **options)

    async def pending(self, channel):
        if self.down:
            raise LayerUnavailable("the store is away")
        return await super().pending(channel)


async def take(layer, channel):
    return await asyncio.wait_for(layer.receive(channel), DEADLINE)


async def ack(layer, message, *replies, **session):
    """What a worker sends when a consumer returned."""
    envelope = {ACK: message[EVENT], REPLIES: list(replies)}
    if session:
        envelope[SESSION] = session["session"]
    await layer.send(message["reply_channel"], envelope)


@contextlib.asynccontextmanager
async def worker(layer, consumer, kinds=("connect", "receive", "disconnect")):
    """Runs ``await consumer(kind, message)`` for each event, acknowledging with the replies that it returns."""
    seen = []

    async def loop(kind):
        while True:
            message = await layer.receive(f"websocket.{kind}")
            seen.append((kind, message))
            await ack(layer, message, *(await consumer(kind, message) or ()))

    tasks = [asyncio.ensure_future(loop(kind)) for kind in kinds]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


async def accepting(kind, message):
    if kind == "connect":
        return [{"accept": True}]
    if kind == "receive":
        return [{"text": "echo " + message["text"]}]


def open_socket(server, path="/", **options):
    options.setdefault("open_timeout", DEADLINE)
    options.setdefault("close_timeout", DEADLINE)
    return websockets.connect(f"ws://127.0.0.1:{port_of(server)}{path}", **options)


def server_window(server, path):
    """The window of the socket that was opened with ``path``."""
    (found,) = [socket for socket in server._context.bridge.sockets if socket.request.path == path]
    return found.window


async def recv(client):
    return await asyncio.wait_for(client.recv(), DEADLINE)


async def status_of(server, path="/"):
    """The status of a handshake that is not accepted."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        await asyncio.wait_for(open_socket(server, path).__aenter__(), DEADLINE)
    return refused.value.response.status_code
