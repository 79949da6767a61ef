"""Listening, stopping and draining."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat

import pytest
import websockets

from fastchannels.exceptions import UsageError
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.server.server import Config, ListenError, Server
from tests.server.support import DEADLINE, connect, port_of, serving, until


async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
    else:
        raise NotImplementedError


async def get_over(reader_and_writer):
    reader, writer = await asyncio.wait_for(reader_and_writer, DEADLINE)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), DEADLINE)
    finally:
        writer.close()
        await writer.wait_closed()


class TestListening:
    async def test_ready_and_addresses(self, caplog):
        caplog.set_level("INFO")
        ready = []
        server = Server(Config(port=0), application=application, ready=ready.append)
        await server.start()
        try:
            assert ready == [server]
            host, port = server.addresses[0]
            assert host == "127.0.0.1"
            assert port > 0
            assert f"Listening on http://127.0.0.1:{port}" in caplog.text
            with pytest.raises(UsageError):
                await server.start()
        finally:
            await server.stop()
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection("127.0.0.1", port)

    @pytest.mark.parametrize("host", ["::1", "[::1]"])
    async def test_ipv6(self, host):
        async with serving(application, host=host) as server:
            assert server.urls == [f"http://[::1]:{port_of(server)}"]
            assert b"hello" in await get_over(asyncio.open_connection("::1", port_of(server)))

    async def test_unix_socket(self, tmp_path):
        path = str(tmp_path / "socket")
        async with serving(application, port=None, uds=path) as server:
            assert server.urls == [f"unix:{path}"]
            assert b"hello" in await get_over(asyncio.open_unix_connection(path))
            with pytest.raises(ListenError, match="socket"):
                async with serving(application, port=None, uds=path):
                    pass
            assert b"hello" in await get_over(asyncio.open_unix_connection(path)), "the other did not take it away"
        assert not (tmp_path / "socket").exists()

    async def test_unix_socket_of_a_dead_server_is_replaced(self, tmp_path):
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        async with serving(application, port=None, uds=path):
            assert b"hello" in await get_over(asyncio.open_unix_connection(path))

    async def test_a_file_in_place_of_the_socket_is_kept(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("precious")
        with pytest.raises(ListenError):
            async with serving(application, port=None, uds=str(path)):
                pass
        assert path.read_text() == "precious"

    async def test_inherited_socket(self):
        with socket.socket() as given:
            given.bind(("127.0.0.1", 0))
            port = given.getsockname()[1]
            async with serving(application, port=None, fd=given.fileno()):
                assert b"hello" in await get_over(asyncio.open_connection("127.0.0.1", port))
            assert given.fileno() >= 0, "the descriptor stays the caller's"

    async def test_several_at_once(self, tmp_path):
        path = str(tmp_path / "socket")
        async with serving(application, uds=path) as server:
            assert len(server.addresses) == 2
            tcp = next(port for _, port in server.addresses if port)
            assert b"hello" in await get_over(asyncio.open_unix_connection(path))
            assert b"hello" in await get_over(asyncio.open_connection("127.0.0.1", tcp))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"port": None}, "nothing to listen on"),
            ({"fd": 999, "port": None}, "file descriptor 999"),
            ({"host": "256.0.0.1"}, "256.0.0.1"),
        ],
    )
    async def test_what_cannot_be_listened_on(self, options, message):
        with pytest.raises(ListenError, match=message):
            async with serving(application, **options):
                pass

    async def test_address_in_use(self):
        async with serving(application) as server:
            port = port_of(server)
            with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
                async with serving(application, port=port):
                    pass

    def test_needs_one_thing_to_serve(self):
        with pytest.raises(UsageError):
            Server(Config())
        with pytest.raises(UsageError):
            Server(Config(), application=application, layer=InMemoryChannelLayer())

    async def test_server_name(self):
        async with serving(application, server_name="mine") as server, connect(server) as client:
            assert (await client.get())[1]["server"] == "mine"
        async with serving(application, server_name=None) as server, connect(server) as client:
            assert "server" not in (await client.get())[1]


class TestStopping:
    async def test_idle_connections_and_websockets(self):
        async with serving(application) as server, connect(server) as idle:
            await idle.get()
            async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}/") as socket_:
                await asyncio.wait_for(server.stop(), DEADLINE)
                assert await idle.read_all() == b""
                await asyncio.wait_for(socket_.wait_closed(), DEADLINE)
                assert socket_.close_code == 1012

    async def test_a_running_response_finishes(self):
        gate = asyncio.Event()

        async def slow(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"one ", "more_body": True})
            await gate.wait()
            await send({"type": "http.response.body", "body": b"two"})

        async with serving(slow) as server, connect(server) as client:
            port = port_of(server)
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server._context.tasks, "the application")
            stopping = asyncio.ensure_future(server.stop())
            await until(lambda: not any(each.is_serving() for each in server._servers), "the end of listening")
            with pytest.raises(OSError, match=r"refused|Connect"):
                await asyncio.open_connection("127.0.0.1", port)
            gate.set()
            assert (await client.response())[2] == b"one two"
            assert await client.read_all() == b""
            await asyncio.wait_for(stopping, DEADLINE)

    async def test_what_does_not_finish_is_cut(self, caplog):
        cancelled = asyncio.Event()

        async def stuck(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with serving(stuck, graceful_timeout=0.2) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server._context.tasks, "the application")
            await asyncio.wait_for(server.stop(), DEADLINE)
            assert cancelled.is_set()
            with contextlib.suppress(ConnectionError):
                assert await client.read_all() == b""

    async def test_drain_is_spread(self):
        async with serving(application, drain_seconds=0.6) as server:
            loop = asyncio.get_running_loop()
            async with contextlib.AsyncExitStack() as stack:
                clients = [
                    await stack.enter_async_context(websockets.connect(f"ws://127.0.0.1:{port_of(server)}/"))
                    for _ in range(4)
                ]
                begun = loop.time()
                ends = []

                async def watch(client):
                    await client.wait_closed()
                    ends.append(loop.time() - begun)

                watchers = [asyncio.ensure_future(watch(client)) for client in clients]
                await asyncio.wait_for(server.stop(), DEADLINE)
                await asyncio.wait_for(asyncio.gather(*watchers), DEADLINE)
        assert max(ends) - min(ends) > 0.3

    async def test_stop_twice_and_before_the_start(self):
        server = Server(Config(port=0), application=application)
        await server.stop()
        await server.start()
        await server.stop()
        await server.stop()
        assert server.addresses == []

    async def test_start_again(self):
        server = Server(Config(port=0), application=application)
        for _ in range(2):
            await server.start()
            assert b"hello" in await get_over(asyncio.open_connection("127.0.0.1", port_of(server)))
            await server.stop()
