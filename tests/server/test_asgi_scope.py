"""The scopes of requests and sockets over real connections."""
# ruff: noqa: SIM117 - one block for each party reads better than one line for all

from __future__ import annotations

import asyncio
import functools

from fastchannels.server.asgi_scope import single_callable
from tests.server.support import (
    DEADLINE,
    answer,
    connect,
    http_only,
    open_socket,
    serving,
    websocket_only,
)


class TestHttpScope:
    async def test_every_key(self):
        scopes = []

        @http_only
        async def application(scope, receive, send):
            scopes.append(scope)
            await answer(send)

        async with serving(application, root_path="/flag") as server, connect(server) as client:
            await client.get("/a%20b?q=1&x=%20", "X-One: 1", "X-One: 2", "X_Two: 3", "Daphne-Root-Path: /ro%20ot")
            await client.get("/")
            local = client.writer.get_extra_info("sockname")
        scope = scopes[0]
        assert scope == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"q=1&x=%20",
            "root_path": "/ro ot",
            "headers": [(b"host", b"a"), (b"x-one", b"1"), (b"x-one", b"2")],
            "client": tuple(local[:2]),
            "server": ("127.0.0.1", port_of_scope(scope)),
            "extensions": {
                "http.response.early_hint": {},
                "http.response.pathsend": {},
                "http.response.zerocopysend": {},
            },
        }
        assert scopes[1]["root_path"] == "/flag"

    async def test_unix_socket(self, tmp_path):
        scopes = []

        @http_only
        async def application(scope, receive, send):
            scopes.append(scope)
            await answer(send)

        path = str(tmp_path / "s")
        async with serving(application, port=None, uds=path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"ok" in await asyncio.wait_for(reader.read(), DEADLINE)
            writer.close()
            await writer.wait_closed()
        assert scopes[0]["client"] is None
        assert scopes[0]["server"] == (path, None)


class TestGenerations:
    async def test_asgi_2(self):
        class Old:
            def __init__(self, scope):
                assert scope["type"] == "http"

            async def __call__(self, receive, send):
                await answer(send, b"class")

        def old(scope):
            return Old(scope)

        for application in (Old, old):
            async with serving(application) as server, connect(server) as client:
                assert (await client.get())[2] == b"class"

    def test_asgi_3_in_all_its_forms(self):
        class Callable:
            async def __call__(self, scope, receive, send):
                pass

        async def function(scope, receive, send):
            pass

        def plain(scope, receive, send):
            return function(scope, receive, send)

        def optional(scope, receive=None, send=None):
            return function(scope, receive, send)

        for application in (Callable(), function, plain, optional, functools.partial(function), max):
            assert single_callable(application) is application


def port_of_scope(scope):
    return scope["server"][1]


class TestWebSocketScope:
    async def test_every_key(self):
        scopes = []

        @websocket_only
        async def application(scope, receive, send):
            scopes.append(scope)
            assert await receive() == {"type": "websocket.connect"}
            await send({"type": "websocket.accept", "subprotocol": "two", "headers": [(b"x-extra", b"1")]})
            await receive()

        async with serving(application) as server:
            async with open_socket(server, "/a%20b?q=1", subprotocols=["one", "two"]) as client:
                assert client.subprotocol == "two"
                assert client.response.headers["x-extra"] == "1"
                assert client.response.headers["server"] == "fastchannels"
                local = client.local_address
        scope = scopes[0]
        headers = scope.pop("headers")
        assert (b"sec-websocket-version", b"13") in headers
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"q=1",
            "root_path": "",
            "client": tuple(local[:2]),
            "server": ("127.0.0.1", port_of_scope(scope)),
            "subprotocols": ["one", "two"],
            "extensions": {"websocket.http.response": {}, "fastchannels.native": {}},
        }
