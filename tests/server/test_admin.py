"""The admin address: what it answers, where it listens, and that it is there when the server is full or stops."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
import websockets

from fastchannels.exceptions import UsageError
from fastchannels.server.admin import Admin, admin_endpoint
from fastchannels.server.listeners import ListenError
from tests.server.support import DEADLINE, Client, connect, port_of, serving, until
from tests.server.test_metrics import application, parse


class admin_client:
    """A raw connection to the admin address."""

    def __init__(self, server):
        self._server = server

    async def __aenter__(self):
        port = self._server._admin.addresses[0][1]
        self._client = Client(*await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), DEADLINE))
        return self._client

    async def __aexit__(self, *_):
        self._client.writer.close()


async def test_pages():
    async with serving(application, admin="127.0.0.1:0") as server, admin_client(server) as admin:
        async with connect(server) as client:
            await client.get()
        status, headers, body = await admin.get("/metrics")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert parse(body.decode())['http_responses_total{status="2xx"}'] == 1
        status, headers, body = await admin.get("/status.json")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body)["responses"] == {"2xx": 1}
        status, headers, body = await admin.get("/")
        assert (status, headers["content-type"], headers["cache-control"]) == (
            200,
            "text/html; charset=utf-8",
            "no-store",
        )
        assert b"<th>responses 2xx<td>1\n" in body
        assert (await admin.get("/metrics", method="HEAD"))[0] == 200
        assert (await admin.get("/health"))[::2] == (200, b"ok\n")
        assert (await admin.get("/nothing"))[0] == 404
        assert (await admin.get("/metrics", method="DELETE"))[0] == 405
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"ws://127.0.0.1:{server._admin.addresses[0][1]}/metrics")


async def test_while_the_server_is_full_and_while_it_stops():
    async with serving(application, admin="0", limit_connections=1) as server, connect(server) as client:
        await client.get()
        async with admin_client(server) as admin:
            async with connect(server) as refused:
                assert (await refused.read_all()).startswith(b"HTTP/1.1 503 ")
            assert b'fastchannels_drops_total{reason="connections"} 1\n' in (await admin.get("/metrics"))[2]
            await client.send(b"GET / HTTP/1.1\r\n")
            await until(lambda: any(c._in_head for c in server._context.connections), "part of a request")
            stopping = asyncio.ensure_future(server.stop())
            await until(lambda: server._context.stopping, "the stop")
            assert (await admin.get("/health"))[::2] == (503, b"draining\n")
            assert b"fastchannels_draining 1\n" in (await admin.get("/metrics"))[2]
            await client.send(b"Host: a\r\n\r\n")
            assert (await client.response())[0] == 200
            await asyncio.wait_for(stopping, DEADLINE)
            assert await admin.read_all() == b""


@pytest.mark.parametrize(
    ("text", "slot", "shown"),
    [
        ("9000", 0, "127.0.0.1:9000"),
        ("9000", 3, "127.0.0.1:9003"),
        ("0", 3, "127.0.0.1:0"),
        ("0.0.0.0:9000", 0, "0.0.0.0:9000"),
        ("[::1]:9000", 1, "[::1]:9001"),
        ("/run/admin", 0, "/run/admin"),
        ("/run/admin", 2, "/run/admin.2"),
    ],
)
def test_endpoints(text, slot, shown):
    assert str(admin_endpoint(text, slot)) == shown


@pytest.mark.parametrize("text", ["", "here", "host:", "65536", ":x"])
def test_what_is_no_endpoint(text):
    with pytest.raises(UsageError, match="admin"):
        admin_endpoint(text)


async def test_unix_socket(tmp_path):
    path = tmp_path / "admin"
    async with serving(application, admin=str(path)) as server:
        assert server._admin.addresses == [(str(path), 0)]
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(str(path))
        assert (await Client(reader, writer).get("/health"))[0] == 200
        writer.close()
    assert not path.exists()


async def test_address_in_use():
    """A server says so; a worker waits until the one before it has ended."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match="in use"):
            async with serving(application, admin=str(port)):
                pass
        async with serving(application) as server:
            admin = Admin(server._context, slot=0)
            server._context.config.admin = str(port)
            await admin.start()
            await asyncio.sleep(0.1)
            assert admin.addresses == []
            taken.close()
            await until(lambda: admin.addresses, "the admin address")
            await admin.stop()


async def test_off():
    async with serving(application) as server:
        assert server._admin is None
        assert server._context.metrics is None
        assert server._context.observe is None
        assert port_of(server)
