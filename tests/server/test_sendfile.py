"""Files as bodies: pathsend and zerocopysend, over plain sockets and where the kernel cannot help."""

from __future__ import annotations

import asyncio
import os

import pytest
import uvloop

from fastchannels.exceptions import ClientDisconnected
from fastchannels.server import sendfile
from tests.server.support import DEADLINE, connect, http_only, serving, until

SIZES = [0, 1, 256 * 1024, 3_000_000]


@pytest.fixture
def make_file(tmp_path):
    def make(size):
        path = tmp_path / "file"
        path.write_bytes(os.urandom(1 << 16) * (size >> 16) + os.urandom(size & 0xFFFF))
        return path

    return make


def head(length=None):
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
async def test_pathsend(make_file, size, known):
    path = make_file(size)

    @http_only
    async def application(scope, receive, send):
        assert "http.response.pathsend" in scope["extensions"]
        await send(head(size if known else None))
        await send({"type": "http.response.pathsend", "path": str(path)})

    async with serving(application) as server, connect(server) as client:
        for _ in range(2):
            assert (await client.get())[2] == path.read_bytes()


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
async def test_zerocopysend_among_pieces(make_file, known):
    content = make_file(1_000_000).read_bytes()

    @http_only
    async def application(scope, receive, send):
        await send(head(2 + 500_000 + 500_000 + 10 if known else None))
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        with open(path, "rb") as file:  # noqa: ASYNC230 - it is small
            file.seek(400_000)
            await send({"type": "http.response.zerocopysend", "file": file, "count": 500_000, "more_body": True})
            await send({"type": "http.response.zerocopysend", "file": file, "offset": 500_000, "more_body": True})
            await send({"type": "http.response.zerocopysend", "file": file, "offset": 0, "count": 10})

    path = make_file(1_000_000)
    content = path.read_bytes()
    async with serving(application) as server, connect(server) as client:
        assert (await client.get())[2] == b"ab" + content[400_000:900_000] + content[500_000:] + content[:10]


async def test_head_sends_no_file(make_file):
    path = make_file(300_000)

    @http_only
    async def application(scope, receive, send):
        await send(head(300_000))
        await send({"type": "http.response.pathsend", "path": str(path)})

    async with serving(application) as server, connect(server) as client:
        status, headers, _ = await client.get(method="HEAD")
        assert (status, headers["content-length"]) == (200, "300000")
        assert (await client.get())[2] == path.read_bytes()


async def test_what_is_no_file_gives_500(tmp_path, caplog):
    @http_only
    async def application(scope, receive, send):
        await send(head())
        await send({"type": "http.response.pathsend", "path": str(tmp_path / scope["path"][1:])})

    async with serving(application) as server, connect(server) as client:
        assert (await client.get("/"))[0] == 500
        assert (await client.get("/missing"))[0] == 500


async def test_a_wrong_length_cuts_the_connection(make_file, caplog):
    path = make_file(1_000_000)

    @http_only
    async def application(scope, receive, send):
        await send(head(999_999))
        await send({"type": "http.response.pathsend", "path": str(path)})

    async with serving(application) as server, connect(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.response()
    assert "longer than the Content-Length" in caplog.text


@pytest.mark.parametrize("plain", [True, False], ids=["kernel", "pieces"])
async def test_a_client_that_leaves_in_the_middle(make_file, plain, monkeypatch):
    path = make_file(20_000_000)
    outcome = asyncio.get_running_loop().create_future()
    if not plain:
        monkeypatch.delattr(sendfile.os, "sendfile")

    @http_only
    async def application(scope, receive, send):
        await send(head(20_000_000))
        try:
            await send({"type": "http.response.pathsend", "path": str(path)})
        except ClientDisconnected as error:
            outcome.set_result(error)
            raise

    async with serving(application) as server, connect(server, limit=1024) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.read_until(b"\r\n\r\n")
        client.abort()
        assert isinstance(await asyncio.wait_for(outcome, DEADLINE), OSError)
        await until(lambda: not server._context.connections, "the end")


@pytest.mark.parametrize("test", [test_pathsend, test_a_client_that_leaves_in_the_middle], ids=["sent", "cut"])
def test_on_uvloop(test, make_file, monkeypatch):
    """The loop of production has no sendfile of its own, and watches its sockets itself."""
    loop = uvloop.new_event_loop()
    arguments = (3_000_000, True) if test is test_pathsend else (True, monkeypatch)
    try:
        loop.run_until_complete(test(make_file, *arguments))
    finally:
        loop.close()
