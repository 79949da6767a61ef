"""What the server answers by itself: health, and requests for which there is no room."""

from __future__ import annotations

import asyncio

import pytest

from fastchannels.layers.memory import InMemoryChannelLayer
from tests.server.support import UPGRADE, connect, hello, serving, until


class TestHealth:
    @pytest.mark.parametrize(
        "mode", [{"application": hello}, {"layer": InMemoryChannelLayer()}], ids=["asgi", "channel"]
    )
    async def test_answered_before_the_application(self, mode):
        async with serving(health_path="/health", **mode) as server, connect(server) as client:
            for query in ("", "?from=balancer"):
                status, headers, body = await client.get(f"/health{query}")
                assert (status, headers["cache-control"], body) == (200, "no-store", b"ok\n")
            status, headers, _ = await client.get("/health", method="HEAD")
            assert (status, headers["content-length"]) == (200, "3")
            server._context.stopping = True
            status, headers, body = await client.get("/health")
            assert (status, headers["connection"], body) == (503, "close", b"draining\n")
            server._context.stopping = False

    async def test_other_methods_and_paths_are_the_applications(self):
        async with serving(hello, health_path="/health") as server, connect(server) as client:
            assert (await client.get("/health/"))[2] == b"hello"
            assert (await client.get("/health", method="DELETE"))[2] == b"hello"

    async def test_off(self):
        async with serving(hello) as server, connect(server) as client:
            assert (await client.get("/health"))[2] == b"hello"


class TestConcurrency:
    async def test_requests_and_sockets_over_the_limit(self, caplog):
        gate = asyncio.Event()

        async def slow(scope, receive, send):
            if scope["type"] == "http":
                await gate.wait()
            await hello(scope, receive, send)

        async with serving(slow, limit_concurrency=2) as server:
            async with connect(server) as first, connect(server) as second, connect(server) as third:
                await first.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await second.send(UPGRADE % b"/")
                assert (await second.response())[0] == 101
                await until(lambda: server._context.running == 2, "both")
                for _ in range(2):
                    status, headers, _ = await third.get("/full")
                    assert (status, headers["retry-after"]) == (503, "1")
                await third.send(UPGRADE % b"/ws")
                status, headers, _ = await third.response()
                assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
                assert await third.read_all() == b""
                gate.set()
                assert (await first.response())[0] == 200
                second.abort()
                await until(lambda: server._context.running == 0, "the end of both")
                assert (await first.get())[0] == 200, "there is room again"
            assert server._context.drops.counts["concurrency"] == 3
        assert caplog.text.count("limit_concurrency") == 1, "once a second at most"
