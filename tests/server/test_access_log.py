"""The lines of server.md section 6, byte for byte but for the time; the objects of the JSON log; masked secrets."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime, timezone

import pytest
import websockets

from fastchannels.server.access_log import DaphneLog, JsonLog, Mask
from tests.server.support import connect, port_of, serving, until

WHEN = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\]"
HTTP = {"method": "GET", "status": 200, "client": "127.0.0.1:5000", "time_taken": 0.1}


def test_lines_of_daphne():
    stream = io.StringIO()
    log = DaphneLog(stream, Mask(["token"]))
    log("http", "complete", {**HTTP, "path": "/path?query", "size": 12})
    log("http", "complete", {**HTTP, "path": "/path?token=a&b", "size": 12})
    log("http", "complete", {**HTTP, "path": "/", "status": 404, "client": None, "size": 0})
    log("http", "something new", {})
    for action in ("connecting", "connected", "rejected", "disconnected", "something new"):
        log("websocket", action, {"path": "/ws", "query": "token=a", "client": "[::1]:1"})
    assert [re.sub(WHEN, "[T]", line) for line in stream.getvalue().splitlines()] == [
        '127.0.0.1:5000 - - [T] "GET /path?query" 200 12',
        '127.0.0.1:5000 - - [T] "GET /path?token=***&b" 200 12',
        'None - - [T] "GET /" 404 -',
        '[::1]:1 - - [T] "WSCONNECTING /ws" - -',
        '[::1]:1 - - [T] "WSCONNECT /ws" - -',
        '[::1]:1 - - [T] "WSREJECT /ws" - -',
        '[::1]:1 - - [T] "WSDISCONNECT /ws" - -',
    ]


def test_objects():
    stream = io.StringIO()
    log = JsonLog(stream, Mask(["token"]))
    log("http", "complete", {**HTTP, "path": '/"\\?token=a', "size": 12})
    log("websocket", "connecting", {"path": "/ws", "query": "token=a&b=1", "client": None})
    log("websocket", "disconnected", {"path": "/ws", "query": "", "client": "c", "code": 1001, "time_taken": 1.5})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in lines:
        when = datetime.fromisoformat(line.pop("time"))
        assert abs((datetime.now(timezone.utc) - when).total_seconds()) < 60
    client = {"client": "127.0.0.1:5000"}
    request = {"event": "request", "method": "GET", "path": '/"\\', "query": "token=***", "status": 200, "bytes": 12}
    socket = {"protocol": "websocket", "path": "/ws"}
    assert lines == [
        {"protocol": "http", **client, **request, "duration": 0.1},
        {**socket, "client": None, "event": "connecting", "query": "token=***&b=1"},
        {**socket, "client": "c", "event": "disconnected", "query": "", "code": 1001, "duration": 1.5},
    ]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ""),
        ("token=a", "token=***"),
        ("token=", "token=***"),
        ("token", "token"),
        ("a=token&TOKEN=x=y&b", "a=token&TOKEN=***&b"),
        ("mytoken=a&token2=b", "mytoken=a&token2=b"),
        ("%74oken=a;api%2Dkey=b", "%74oken=***;api%2Dkey=***"),
        ("token=a&token=b", "token=***&token=***"),
    ],
)
def test_mask(query, shown):
    assert Mask(["Token", "api-key"])(query) == shown
    assert Mask([])(query) == query


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


async def talk(server, calls):
    """Two requests and a socket; the addresses of both clients."""
    async with connect(server) as client:
        await client.get("/a%0Ab?q=1&token=secret")
        await client.get("/c", method="HEAD")
        host, port = client.writer.get_extra_info("sockname")
    async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}/ws?api_key=secret") as socket:
        ws_port = socket.local_address[1]
        await socket.close(4321, "bye")
    await until(lambda: len(calls) == 5, "the last event")
    return f"{host}:{port}", f"127.0.0.1:{ws_port}"


async def test_file_of_a_server(tmp_path):
    path = tmp_path / "access.log"
    calls = []
    async with serving(application, access_log=str(path), action_logger=lambda *call: calls.append(call)) as server:
        http, ws = await talk(server, calls)
        assert [re.sub(WHEN, "[T]", line) for line in path.read_text().splitlines()] == [
            f'{http} - - [T] "GET /a%0Ab?q=1&token=***" 200 5',
            f'{http} - - [T] "HEAD /c" 200 -',
            f'{ws} - - [T] "WSCONNECTING /ws" - -',
            f'{ws} - - [T] "WSCONNECT /ws" - -',
            f'{ws} - - [T] "WSDISCONNECT /ws" - -',
        ], "written as it happens, not when the server ends"
    protocol, action, details = calls[0]
    assert (protocol, action) == ("http", "complete")
    assert 0 <= details.pop("time_taken") < 10
    assert details == {
        "path": "/a%0Ab?q=1&token=secret",
        "status": 200,
        "method": "GET",
        "client": http,
        "size": 5,
    }


async def test_json_of_a_server(tmp_path):
    path = tmp_path / "access.log"
    calls = []
    options = {"access_log": str(path), "access_log_format": "json"}
    async with serving(application, action_logger=lambda *call: calls.append(call), **options) as server:
        _, ws = await talk(server, calls)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["request", "request", "connecting", "connected", "disconnected"]
    assert [line["query"] for line in lines] == ["q=1&token=***", "", *["api_key=***"] * 3]
    assert (lines[-1]["code"], lines[-1]["client"]) == (4321, ws)
    assert 0 <= lines[-1]["duration"] < 10
    assert "secret" not in path.read_text()


async def test_another_mask(tmp_path):
    path = tmp_path / "access.log"
    async with serving(application, access_log=str(path), access_log_mask=["q"]) as server, connect(server) as client:
        await client.get("/?q=1&token=2")
        assert '"GET /?q=***&token=2" 200 5\n' in path.read_text()
