"""However a socket ends, the application hears of it once, with one code, and so do the access log and the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from fastchannels.envelope import ACK, EVENT, REPLIES
from fastchannels.layers.memory import InMemoryChannelLayer
from tests.server.support import DEADLINE, UPGRADE, connect, serving, until


def frame(opcode: int, payload: bytes = b"", fin: int = 0x80) -> bytes:
    """A frame of a client, with a mask of zeros."""
    assert len(payload) < 126
    return bytes((fin | opcode, 0x80 | len(payload))) + bytes(4) + payload


async def close_frame(server: Any, client: Any) -> None:
    await client.send(frame(8, struct.pack(">H", 4321)))


async def close_without_code(server: Any, client: Any) -> None:
    await client.send(frame(8))


async def fin(server: Any, client: Any) -> None:
    client.writer.close()


async def half_closed(server: Any, client: Any) -> None:
    client.writer.write_eof()


async def reset(server: Any, client: Any) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.abort()


async def reset_with_messages_behind(server: Any, client: Any) -> None:
    await client.send(frame(1, b"a") * 50)
    await reset(server, client)


async def close_frame_and_reset(server: Any, client: Any) -> None:
    await close_frame(server, client)
    await reset(server, client)


async def unmasked(server: Any, client: Any) -> None:
    await client.send(b"\x81\x01a")


async def protocol_error_and_reset(server: Any, client: Any) -> None:
    await unmasked(server, client)
    await reset(server, client)


async def bad_utf8(server: Any, client: Any) -> None:
    await client.send(frame(1, b"\xff\xff"))


async def oversize(server: Any, client: Any) -> None:
    await client.send(b"\x82\xff" + struct.pack(">Q", 1 << 40) + bytes(4))


async def nothing(server: Any, client: Any) -> None:
    pass


async def drain(server: Any, client: Any) -> None:
    stopping = asyncio.ensure_future(server.stop())
    with contextlib.suppress(ConnectionError):
        await client.read_until(b"\x88")
        await client.send(frame(8, struct.pack(">H", 1012)))
    await asyncio.wait_for(stopping, DEADLINE)


async def stop_at_once(server: Any, client: Any) -> None:
    await asyncio.wait_for(server.stop(0), DEADLINE)


async def told_to_close(server: Any, client: Any) -> None:
    await client.send(frame(1, b"close"))
    await client.read_until(b"\x88")
    await client.send(frame(8, struct.pack(">H", 4000)))


async def told_to_close_and_gone(server: Any, client: Any) -> None:
    await client.send(frame(1, b"close"))
    await reset(server, client)


async def told_to_close_without_an_answer(server: Any, client: Any) -> None:
    await client.send(frame(1, b"close"))
    await client.read_until(b"\x88")


async def does_not_read(server: Any, client: Any) -> None:
    await client.send(frame(1, b"flood"))


class End(NamedTuple):
    """A way to end, the codes that the application may be told, and options of the server."""

    act: Callable[[Any, Any], Awaitable[None]]
    codes: tuple[int, ...]
    options: dict[str, Any]


ENDS = [
    End(close_frame, (4321,), {}),
    End(close_without_code, (1005,), {}),
    End(fin, (1006,), {}),
    End(half_closed, (1006,), {}),
    End(reset, (1006,), {}),
    End(reset_with_messages_behind, (1006,), {}),
    End(close_frame_and_reset, (4321, 1006), {}),
    End(unmasked, (1002,), {}),
    End(protocol_error_and_reset, (1002, 1006), {}),
    End(bad_utf8, (1007,), {}),
    End(oversize, (1009,), {}),
    End(nothing, (1006,), {"ping_interval": 0.3, "ping_timeout": 0.3}),
    End(nothing, (1000,), {"websocket_timeout": 0.4, "websocket_close_timeout": 0.3}),
    End(drain, (1012,), {}),
    End(stop_at_once, (1006, 1012), {}),
    End(told_to_close, (4000,), {}),
    End(told_to_close_and_gone, (4000, 1006), {}),
    End(told_to_close_without_an_answer, (4000,), {"websocket_close_timeout": 0.3}),
    End(does_not_read, (1013,), {"ws_write_budget": 65536, "websocket_close_timeout": 0.5}),
]
IDS = [f"{end.act.__name__}{''.join(f'-{name}' for name in end.options)}" for end in ENDS]


@contextlib.asynccontextmanager
async def opened(server: Any) -> Any:
    async with connect(server, limit=4096) as client:
        await client.send(UPGRADE % b"/")
        yield client


def count(log: list[Any], action: str) -> int:
    return sum(entry[1] == action for entry in log)


@pytest.mark.parametrize("end", ENDS, ids=IDS)
async def test_asgi(end: End) -> None:
    heard: list[dict[str, Any]] = []
    log: list[Any] = []
    ready = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "websocket.accept"})
        ready.set()
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                heard.append(message)
                # Were it told twice, this would take the second.
                with contextlib.suppress(asyncio.TimeoutError):
                    heard.append(await asyncio.wait_for(receive(), 0.3))
                return
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4000})
            elif message.get("text") == "flood":
                with contextlib.suppress(OSError):
                    await asyncio.wait_for(flood(send), 2)

    async def flood(send: Any) -> None:
        while True:
            await asyncio.gather(*(send({"type": "websocket.send", "bytes": bytes(65536)}) for _ in range(8)))

    options = {"application_close_timeout": 5, **end.options}
    async with serving(application, admin="0", action_logger=lambda *call: log.append(call), **options) as server:
        context, metrics = server._context, server._admin.metrics
        async with opened(server) as client:
            await client.read_until(b"\r\n\r\n")
            await asyncio.wait_for(ready.wait(), DEADLINE)
            await end.act(server, client)
            await until(lambda: heard and not context.tasks, "the disconnect")
        await until(lambda: not context.connections, "the end of the connection")
        assert context.running == 0
        assert len(heard) == 1
        assert heard[0]["code"] in end.codes
        assert count(log, "disconnected") == 1
        assert [entry[2]["code"] for entry in log if entry[1] == "disconnected"] == [heard[0]["code"]]
        assert sum(metrics.closed.values()) == 1
        assert not metrics.sockets


@pytest.mark.parametrize("end", ENDS, ids=IDS)
async def test_channel_mode(end: End) -> None:
    layer = InMemoryChannelLayer()
    heard: list[dict[str, Any]] = []
    log: list[Any] = []
    ready = asyncio.Event()

    async def worker(kind: str) -> None:
        while True:
            message = await layer.receive(f"websocket.{kind}")
            replies: list[dict[str, Any]] = []
            if kind == "connect":
                replies.append({"accept": True})
                ready.set()
            elif kind == "disconnect":
                heard.append(message)
            elif message["text"] == "close":
                replies.append({"close": 4000})
            elif message["text"] == "flood":
                replies += [{"bytes": bytes(65536)}] * 150
            with contextlib.suppress(Exception):  # a channel that is closed by now
                await layer.send(message["reply_channel"], {ACK: message[EVENT], REPLIES: replies})

    workers = [asyncio.ensure_future(worker(kind)) for kind in ("connect", "receive", "disconnect")]
    try:
        async with serving(
            layer=layer, admin="0", action_logger=lambda *call: log.append(call), **end.options
        ) as server:
            context = server._context
            async with opened(server) as client:
                await client.read_until(b"\r\n\r\n")
                await end.act(server, client)
                await until(lambda: heard, "the disconnect")
            await until(lambda: not context.connections and not context.bridge.sockets, "the end of the socket")
            assert context.running == 0
        await asyncio.sleep(0.1)
        assert len(heard) == 1
        assert heard[0]["code"] in end.codes
        assert await layer.pending("websocket.disconnect") == 0
        assert count(log, "disconnected") == 1
    finally:
        for task in workers:
            task.cancel()
        await asyncio.wait(workers)


@pytest.mark.parametrize("answer", ["accept", "nothing"])
async def test_an_application_that_raises(answer: str, caplog: Any) -> None:
    """It is not told, for it has ended; the client is, and the log names path and client."""
    log: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if answer == "accept":
            await send({"type": "websocket.accept"})
        raise LookupError("broke")

    async with serving(application, action_logger=lambda *call: log.append(call)) as server:
        async with opened(server) as client:
            host, port = client.writer.get_extra_info("sockname")
            if answer == "accept":
                await client.read_until(b"\r\n\r\n")
                assert (await client.read_exactly(4))[2:] == struct.pack(">H", 1011)
                await client.send(frame(8, struct.pack(">H", 1011)))
            else:
                assert (await client.response())[0] == 500
            assert await client.read_all() == b""
        await until(lambda: count(log, "disconnected"), "the end")
        assert count(log, "disconnected") == 1
    record = next(record for record in caplog.records if record.exc_info)
    assert record.exc_info[0] is LookupError
    assert f"websocket / of {host}:{port}" in record.getMessage()


@pytest.mark.parametrize("act", [fin, reset, nothing, stop_at_once])
async def test_requests_of_channel_mode(act: Callable[[Any, Any], Awaitable[None]]) -> None:
    """``http.disconnect`` is sent once for a request whose answer did not get through, and for no other."""
    layer = InMemoryChannelLayer()
    async with serving(layer=layer) as server:
        async with connect(server) as client:
            await client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            message = await asyncio.wait_for(layer.receive("http.request"), DEADLINE)
            if act is nothing:
                await layer.send(message["reply_channel"], {"status": 204})
                assert (await client.response())[0] == 204
            else:
                await act(server, client)
        if server._context is not None:
            await until(lambda: not server._context.connections and not server._context.tasks, "the end")
    assert await layer.pending("http.disconnect") == (0 if act is nothing else 1)
