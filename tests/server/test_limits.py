"""Connections over a limit, clients that trickle, and how it is logged."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import textwrap

import pytest

from fastchannels.server.limits import Drops, Gate, address_key, connection_limit
from fastchannels.server.proxy import TrustedAddresses
from tests.server.support import DEADLINE, UPGRADE, connect, serving, until

NOBODY = TrustedAddresses(["192.0.2.1"])


async def hello(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def upload(scope, receive, send):
    """Takes the whole body and answers with its size."""
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            upload.left = True
            return
        size += len(message["body"])
        more = message["more_body"]
    body = b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class TestDrops:
    def test_once_a_second_for_each_reason(self, caplog):
        now = 0.0
        drops = Drops(lambda: now)
        for _ in range(3):
            drops.note("a", "first")
        drops.note("b", "other")
        now = 1.0
        drops.note("a", "second")
        assert drops.counts == {"a": 4, "b": 1}
        assert caplog.messages == ["first", "other", "second (2 more like it)"]

    def test_what_was_not_due_is_told_later(self, caplog):
        now = 0.0
        drops = Drops(lambda: now)
        for number in range(3):
            drops.note("a", str(number))
        drops.report()
        assert caplog.messages == ["0"]
        now = 1.0
        drops.report()
        drops.report()
        now = 5.0
        drops.report()
        assert caplog.messages == ["0", "2 (1 more like it)"]


class TestGate:
    def test_in_all(self):
        drops = Drops()
        gate = Gate(2, 0, NOBODY, drops)
        assert gate.enter("1.1.1.1")
        assert gate.enter(None)
        assert not gate.enter("1.1.1.1")
        gate.leave(None)
        assert gate.enter("1.1.1.1")
        assert drops.counts == {"connections": 1}

    def test_by_address(self):
        drops = Drops()
        gate = Gate(100, 1, NOBODY, drops)
        assert gate.enter("1.1.1.1")
        assert not gate.enter("1.1.1.1")
        assert not gate.enter("::ffff:1.1.1.1") or gate.enter("1.1.1.2"), "another form of an address"
        assert gate.enter("1.1.1.3")
        for _ in range(3):
            assert gate.enter("192.0.2.1"), "a proxy"
            assert gate.enter(None), "a Unix socket"
        gate.leave("1.1.1.1")
        assert gate.enter("1.1.1.1")
        for host in ("1.1.1.1", "192.0.2.1", None):
            gate.leave(host)
        assert drops.counts["per_address"] >= 1

    def test_ipv6_by_64(self):
        assert address_key("2001:db8::1") == address_key("2001:db8::2:3") == address_key("2001:db8::9%eth0")
        assert address_key("2001:db8::1") != address_key("2001:db8:0:1::1")
        assert address_key("::ffff:1.2.3.4") != address_key("::ffff:1.2.3.5")
        assert address_key("1.2.3.4") == "1.2.3.4"
        assert address_key("no:address") == "no:address"

    def test_connection_limit(self):
        assert connection_limit(5) == 5
        assert connection_limit(0) == sys.maxsize
        resource = pytest.importorskip("resource")
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert 0 < connection_limit(None) < files or files == resource.RLIM_INFINITY

    def test_open_files(self):
        """In a process of its own, whose limits it may change."""
        program = textwrap.dedent(
            """
            import resource
            from fastchannels.server.limits import connection_limit, raise_open_files
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            print(connection_limit(None))
            raise_open_files()
            soft, after = resource.getrlimit(resource.RLIMIT_NOFILE)
            assert after == hard
            assert soft == (65536 if hard == resource.RLIM_INFINITY else min(hard, 65536))
            print(connection_limit(None) == soft - 128)
            """
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "128\nTrue\n"

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"limit_connections": 2}, "connections"),
            ({"limit_per_address": 2, "forwarded_allow_ips": []}, "per_address"),
        ],
    )
    async def test_over_real_sockets(self, options, reason, caplog):
        async with serving(hello, **options) as server:
            async with connect(server) as first, connect(server) as second:
                assert (await first.get())[0] == (await second.get())[0] == 200
                for _ in range(3):
                    async with connect(server) as third:
                        assert (await third.read_all()).startswith(b"HTTP/1.1 503 ")
                assert (await first.get())[0] == 200
                assert server._context.drops.counts == {reason: 3}
            await until(lambda: not server._context.connections, "the end of the two")
            async with connect(server) as again:
                assert (await again.get())[0] == 200
        assert caplog.text.count("is refused") == 1


class TestSlowClients:
    async def test_head_from_its_first_byte(self):
        async with serving(hello, header_timeout=0.5) as server, connect(server) as client:
            await client.get()
            begun = asyncio.get_running_loop().time()

            async def trickle():
                with contextlib.suppress(ConnectionError):
                    for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 10000:
                        await client.send(bytes([byte]))
                        await asyncio.sleep(0.05)

            trickling = asyncio.ensure_future(trickle())
            status, headers, _ = await client.response()
            assert (status, headers["connection"]) == (408, "close")
            assert asyncio.get_running_loop().time() - begun < 2
            trickling.cancel()
            assert server._context.drops.counts == {"header_timeout": 1}

    async def test_an_idle_connection_is_closed_without_a_word(self):
        async with serving(hello, keep_alive_timeout=0.5, header_timeout=60) as server:
            async with connect(server) as client:
                assert await client.read_all() == b""
            async with connect(server) as client:
                await client.get()
                assert await client.read_all() == b""
            assert not server._context.drops.counts

    async def test_body_that_stops(self):
        upload.left = False
        async with serving(upload, body_timeout=0.5) as server, connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nsome")
            status, headers, _ = await client.response()
            assert (status, headers["connection"]) == (408, "close")
            await until(lambda: upload.left, "http.disconnect")
            assert server._context.drops.counts == {"body_timeout": 1}

    async def test_body_that_trickles(self):
        async with serving(upload, body_timeout=0.7, body_rate=1000) as server, connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")

            async def trickle():
                with contextlib.suppress(ConnectionError):
                    while True:
                        await client.send(b"aa")
                        await asyncio.sleep(0.05)

            trickling = asyncio.ensure_future(trickle())
            assert (await client.response())[0] == 408
            trickling.cancel()

    async def test_slow_but_fast_enough(self):
        async with serving(upload, body_timeout=0.6, body_rate=1000) as server, connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n")
            for _ in range(4):
                await asyncio.sleep(0.4)
                await client.send(b"a" * 1000)
            assert (await client.response())[2] == b"4000"

    async def test_what_the_application_does_not_read_waits_with_the_client(self):
        ready = asyncio.Event()
        size = 30 * 1024 * 1024

        async def lazy(scope, receive, send):
            if scope["type"] == "http":
                await ready.wait()
            await upload(scope, receive, send)

        async with serving(lazy, request_buffer_size=1000) as server, connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            await client.send(bytes(1000))
            connection = await until(lambda: next(iter(server._context.connections), None), "the connection")
            await until(lambda: connection.bytes_in > 1000, "the first of the body")
            assert not connection.held
            sending = asyncio.ensure_future(client.send(bytes(size - 1000)))
            await until(lambda: connection.held, "the pause")
            assert connection.bytes_in < 1024 * 1024
            ready.set()
            await asyncio.wait_for(sending, DEADLINE)
            assert (await client.response())[2] == b"%d" % size

    async def test_the_applications_pace_is_not_the_clients(self):
        """Neither a client that waits for 100 Continue, nor one that the server does not read, is too slow."""
        ready = asyncio.Event()

        async def lazy(scope, receive, send):
            if scope["type"] == "http":
                await ready.wait()
            await upload(scope, receive, send)

        async with serving(lazy, body_timeout=0.4) as server, connect(server) as waiting, connect(server) as full:
            await waiting.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            await full.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + bytes(200000))
            await asyncio.sleep(1.2)
            ready.set()
            await waiting.read_until(b"100 Continue\r\n\r\n")
            await waiting.send(b"body")
            await full.send(bytes(100000))
            assert (await waiting.response())[2] == b"4"
            assert (await full.response())[2] == b"300000"

    async def test_a_client_that_takes_nothing(self):
        async def endless(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

        async with (
            serving(endless, write_timeout=0.5, keep_alive_timeout=0.5) as server,
            connect(server, limit=1024) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server._context.drops.counts["write_timeout"], "the cut")
            await until(lambda: not server._context.connections, "its end")

    async def test_a_client_that_takes_little_is_served(self):
        size = 8 * 1024 * 1024

        async def large(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": bytes(size)})

        async with (
            serving(large, write_timeout=0.5, keep_alive_timeout=0.5) as server,
            connect(server, limit=65536) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            got = len(await client.read_until(b"\r\n\r\n"))
            for _ in range(8):
                await asyncio.sleep(0.3)
                got += len(await client.read_exactly(size // 10))
            got += len(await client.read_all())
            assert got > size
            assert not server._context.drops.counts


def masked(payload):
    """A text frame of a client, with a mask of zeros."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    return head + bytes(4) + payload


class TestRate:
    @pytest.mark.parametrize(
        "options", [{"ws_message_rate": 2000, "ws_byte_rate": 0}, {"ws_message_rate": 0, "ws_byte_rate": 200_000}]
    )
    async def test_a_socket_that_sends_too_fast_is_read_slowly(self, options, caplog):
        """All of it arrives, in order; but for the first burst, and what one read takes, at the rate."""
        count, seen = 6000, []

        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                if message["type"] == "websocket.receive":
                    seen.append(int(message["text"]))

        loop = asyncio.get_running_loop()
        async with serving(application, **options) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            await client.read_until(b"\r\n\r\n")
            begun = loop.time()
            for start in range(0, count, 100):
                await client.send(b"".join(masked(b"%094d" % number) for number in range(start, start + 100)))
            await until(lambda: len(seen) == count, "all messages")
            assert 0.6 < loop.time() - begun < 8
            assert seen == list(range(count))
            assert server._context.drops.counts["rate"] >= 1
        assert "sends too fast" in caplog.text

    async def test_an_ordinary_socket_is_not_held(self):
        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                if message["type"] == "websocket.receive":
                    await send({"type": "websocket.send", "text": message["text"]})

        async with serving(application, ws_message_rate=40) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            await client.read_until(b"\r\n\r\n")
            for number in range(60):  # more than one second's worth, over more than a second
                await client.send(masked(b"%02d" % number))
                assert await client.read_exactly(4) == b"\x81\x02%02d" % number
                await asyncio.sleep(0.03)
            assert not server._context.drops.counts


async def test_requests_of_one_connection():
    async with serving(hello, keep_alive_requests=2) as server, connect(server) as client:
        assert "connection" not in (await client.get())[1]
        assert (await client.get())[1]["connection"] == "close"
        assert await asyncio.wait_for(client.reader.read(), DEADLINE) == b""
