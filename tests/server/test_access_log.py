"""The lines of server.md section 6, byte for byte but for the time."""

from __future__ import annotations

import io
import re

import websockets

from fastchannels.server.access_log import AccessLog
from tests.server.support import connect, port_of, serving, until

WHEN = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\]"


def test_lines():
    stream = io.StringIO()
    log = AccessLog(stream)
    http = {"method": "GET", "status": 200, "client": "127.0.0.1:5000", "time_taken": 0.1}
    log("http", "complete", {**http, "path": "/path?query", "size": 12})
    log("http", "complete", {**http, "path": "/", "status": 404, "client": None, "size": 0})
    for action in ("connecting", "connected", "rejected", "disconnected", "something new"):
        log("websocket", action, {"path": "/ws", "client": "[::1]:1"})
    assert [re.sub(WHEN, "[T]", line) for line in stream.getvalue().splitlines()] == [
        '127.0.0.1:5000 - - [T] "GET /path?query" 200 12',
        'None - - [T] "GET /" 404 -',
        '[::1]:1 - - [T] "WSCONNECTING /ws" - -',
        '[::1]:1 - - [T] "WSCONNECT /ws" - -',
        '[::1]:1 - - [T] "WSREJECT /ws" - -',
        '[::1]:1 - - [T] "WSDISCONNECT /ws" - -',
    ]


async def test_file_of_a_server(tmp_path):
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

    path = tmp_path / "access.log"
    calls = []
    async with serving(application, access_log=str(path), action_logger=lambda *call: calls.append(call)) as server:
        async with connect(server) as client:
            await client.get("/a%0Ab?q=1")
            await client.get("/c", method="HEAD")
            host, port = client.writer.get_extra_info("sockname")
        async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}/ws?q") as socket:
            ws_port = socket.local_address[1]
        await until(lambda: len(calls) == 5, "the last event")
    assert [re.sub(WHEN, "[T]", line) for line in path.read_text().splitlines()] == [
        f'{host}:{port} - - [T] "GET /a%0Ab?q=1" 200 5',
        f'{host}:{port} - - [T] "HEAD /c" 200 -',
        f'127.0.0.1:{ws_port} - - [T] "WSCONNECTING /ws" - -',
        f'127.0.0.1:{ws_port} - - [T] "WSCONNECT /ws" - -',
        f'127.0.0.1:{ws_port} - - [T] "WSDISCONNECT /ws" - -',
    ]
    protocol, action, details = calls[0]
    assert (protocol, action) == ("http", "complete")
    assert 0 <= details.pop("time_taken") < 10
    assert details == {
        "path": "/a%0Ab?q=1",
        "status": 200,
        "method": "GET",
        "client": f"{host}:{port}",
        "size": 5,
    }
