"""HTTP/2 connections of a running server: how they are chosen, how they end, and what they may cost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import sys

import httpx
import pytest
from h2.settings import SettingCodes

from fastchannels.exceptions import ClientDisconnected
from fastchannels.server import protocol
from fastchannels.server.config import Config
from fastchannels.server.http2_session import limits_of
from tests.server.certificates import Authority
from tests.server.http2_client import http2
from tests.server.http2_frames import (
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    POST,
    PREFACE,
    RST_STREAM,
    START,
    block,
    frame,
    headers,
    parse,
    settings,
    word,
)  # fmt: skip
from tests.server.support import DEADLINE, connect, port_of, serving, until
from tests.server.test_http2_stream import Socket, answering, echo, memory

if sys.version_info < (3, 11):
    # asyncio's TLS transports do not know there that their other end has closed them.
    pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls(authority):
    """Options of a server with a certificate."""
    certificate, key = authority.issue("localhost")
    return {"ssl_certfile": certificate, "ssl_keyfile": key, "lifespan": "off"}


def over_tls(authority, *protocols):
    context = authority.client()
    context.set_alpn_protocols(list(protocols))
    return context


async def frames_until_closed(client):
    return parse(await client.read_all())


# ---------------------------------------------------------------------------------------------------- which protocol


async def test_alpn(authority, tls):
    async with serving(answering(), **tls) as server:
        async with http2(server, ssl=over_tls(authority, "h2", "http/1.1")) as client:
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            assert (await client.get()).body == b"ok"
        async with connect(server, ssl=over_tls(authority, "http/1.1")) as client:
            assert (await client.get())[0] == 200
        async with connect(server, ssl=over_tls(authority)) as client:
            assert (await client.get())[0] == 200, "no ALPN at all"


async def test_a_client_that_chooses_by_itself(authority, tls):
    async def application(scope, receive, send):
        await answering(body=f"{scope['http_version']} {scope['scheme']}".encode())(scope, receive, send)

    async with serving(application, **tls) as server:
        url = f"https://127.0.0.1:{port_of(server)}/"
        async with httpx.AsyncClient(http2=True, verify=authority.client(), trust_env=False) as client:
            for _ in range(3):
                answer = await client.post(url, content=b"a" * 100000)
                assert (answer.http_version, answer.text) == ("HTTP/2", "2 https")
        async with httpx.AsyncClient(http2=False, verify=authority.client(), trust_env=False) as client:
            assert (await client.get(url)).text == "1.1 https"


async def test_a_websocket_over_tls(authority, tls):
    async with serving(echo(), **tls) as server, http2(server, ssl=over_tls(authority, "h2")) as client:
        socket = await Socket.asked(client)
        socket.send("hello")
        assert await socket.receive() == "hello"


async def test_prior_knowledge_a_byte_at_a_time():
    async with serving(answering(), lifespan="off") as server, connect(server) as client:
        for byte in START + headers(1) + frame(GOAWAY, 0, 0, word(0) + word(0)):
            await client.send(bytes((byte,)))
            await asyncio.sleep(0)
        frames = await frames_until_closed(client)
        assert [type(found).__name__ for found in frames if found.stream_id == 1] == ["HeadersFrame", "DataFrame"]


async def test_a_method_that_begins_as_the_preface():
    async with serving(answering(), lifespan="off") as server, connect(server) as client:
        for piece in (b"P", b"R", b"OPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"):
            await client.send(piece)
            await asyncio.sleep(0.02)
        assert (await client.response())[0] == 200


async def test_a_preface_that_does_not_go_on():
    async with serving(answering(), lifespan="off", header_timeout=0.3) as server, connect(server) as client:
        await client.send(PREFACE[:10])
        assert (await client.read_all()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("without", ["the extra", "the option"])
async def test_where_it_is_not_spoken(without, monkeypatch, authority, tls):
    """A client with prior knowledge hears what is missing; by ALPN it is not offered."""
    if without == "the extra":
        monkeypatch.setattr(protocol, "INSTALLED", False)
        monkeypatch.setattr("fastchannels.server.server.INSTALLED", False)
    offer = over_tls(authority, "h2", "http/1.1")
    async with (
        serving(answering(), http2=without == "the extra", **tls) as server,
        connect(server, ssl=offer) as client,
    ):
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert (await client.get())[0] == 200
    async with serving(answering(), http2=without == "the extra", lifespan="off") as server:
        async with connect(server) as client:
            await client.send(PREFACE + settings())
            _, goaway = await frames_until_closed(client)
            assert goaway.error_code == 0xD
            assert b"fastchannels[http2]" in goaway.additional_data
        async with connect(server) as client:
            assert (await client.get())[0] == 200


# ---------------------------------------------------------------------------------------------------- the end


async def test_a_server_that_stops_lets_streams_finish():
    gate = asyncio.Event()
    started = asyncio.Event()

    async def application(scope, receive, send):
        if scope["path"] == "/slow":
            started.set()
            await gate.wait()
        await answering()(scope, receive, send)

    async with serving(application, lifespan="off") as server, http2(server) as client, http2(server) as idle:
        await idle.get()
        number = client.request("/slow")
        await asyncio.wait_for(started.wait(), DEADLINE)
        stopping = asyncio.ensure_future(server.stop(DEADLINE))
        await idle.until_closed()
        assert idle.goaway == (0, 1, None)
        await client.until(lambda: client.goaway, "GOAWAY")
        assert client.goaway == (0, number, None)
        client.raw(headers(number + 2))
        gate.set()
        await client.until(lambda: client.answers[number].over, "the answer")
        assert (client.answers[number].status, client.answers[number].body) == (200, b"ok")
        await client.until_closed()
        await asyncio.wait_for(stopping, DEADLINE)


async def test_a_server_that_stops_closes_websockets():
    events = asyncio.Queue()
    async with serving(echo(events), lifespan="off") as server, http2(server) as client:
        sockets = [await Socket.asked(client) for _ in range(3)]
        for socket in sockets:
            await socket.accepted()
        stopping = asyncio.ensure_future(server.stop(DEADLINE))
        for socket in sockets:
            assert (await socket.receive()).code == 1012
            socket.flush()
        for _ in sockets:
            assert (await asyncio.wait_for(events.get(), DEADLINE))[1]["code"] == 1012
        await client.until_closed()
        await asyncio.wait_for(stopping, DEADLINE)


async def test_a_client_that_goes_away_gets_its_answers():
    gate = asyncio.Event()

    async def application(scope, receive, send):
        await gate.wait()
        await answering()(scope, receive, send)

    async with serving(application, lifespan="off") as server, connect(server) as client:
        await client.send(START + headers(1) + headers(3) + frame(GOAWAY, 0, 0, word(0) + word(0)))
        gate.set()
        frames = await frames_until_closed(client)
        ended = [found.stream_id for found in frames if "END_STREAM" in found.flags]
        assert sorted(ended) == [1, 3]


async def test_an_idle_connection_is_closed():
    async with serving(answering(), lifespan="off", keep_alive_timeout=0.3) as server:
        async with http2(server) as client:
            await client.get()
            await client.until_closed()
            assert client.goaway[0] == 0
        async with connect(server) as client:
            await client.send(START)
            assert [type(found).__name__ for found in await frames_until_closed(client)][-1] == "GoAwayFrame"


async def test_an_open_websocket_keeps_its_connection():
    async with serving(echo(), lifespan="off", keep_alive_timeout=0.2) as server, http2(server) as client:
        socket = await Socket.asked(client)
        await socket.accepted()
        await asyncio.sleep(1.2)
        socket.send("still here")
        assert await socket.receive() == "still here"


async def test_requests_of_one_connection_are_bounded():
    async with serving(answering(), lifespan="off", keep_alive_requests=2) as server, http2(server) as client:
        assert (await client.get()).status == 200
        assert (await client.get()).status == 200
        await client.until_closed()
        assert client.goaway[0] == 0


async def test_a_header_section_that_does_not_end():
    async with serving(answering(), lifespan="off", header_timeout=0.3) as server, connect(server) as client:
        await client.send(START + frame(HEADERS, 0, 1, block(POST)))
        goaway = (await frames_until_closed(client))[-1]
        assert goaway.error_code == 11
        assert b"slow" in goaway.additional_data


# ---------------------------------------------------------------------------------------------------- hostile clients


async def test_rapid_reset_ends_the_connection_and_every_application():
    """CVE-2023-44487: what was started is told, nothing goes on, and the next client is served."""
    running = 0

    async def application(scope, receive, send):
        nonlocal running
        running += 1
        try:
            if scope["path"] == "/":
                await receive()
                assert (await receive())["type"] == "http.disconnect"
            else:
                await answering()(scope, receive, send)
        finally:
            running -= 1

    async with serving(application, lifespan="off", http2_resets=50) as server:
        async with connect(server) as client:
            flood = b"".join(headers(n) + frame(RST_STREAM, 0, n, word(8)) for n in range(1, 400, 2))
            await client.send(START + flood)
            goaway = (await frames_until_closed(client))[-1]
            assert goaway.error_code == 11
            assert goaway.last_stream_id <= 2 * 50 + 1
        await until(lambda: not running, "the end of the applications")
        async with http2(server) as client:
            assert (await client.get("/next")).status == 200


async def test_a_client_that_asks_and_does_not_read():
    """Answers to pings that nobody takes are not kept without bound: the server stops reading."""
    async with serving(answering(), lifespan="off", http2_control_frames=10**9) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(server), limit=1024)
        writer.transport.pause_reading()
        before = memory()
        writer.write(START)
        pings = frame(PING, 0, 0, b"12345678") * 1000
        for _ in range(10000):
            writer.write(pings)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.5)
                continue
            break
        else:
            raise AssertionError("170 MB of pings were read")
        assert memory() - before < 8 * 1024 * 1024
        writer.transport.abort()


async def test_streams_above_the_limit_are_refused():
    gate = asyncio.Event()

    async def application(scope, receive, send):
        await gate.wait()
        await answering()(scope, receive, send)

    async with serving(application, lifespan="off", http2_streams=3) as server, connect(server) as client:
        await client.send(START + b"".join(headers(number) for number in (1, 3, 5, 7)))
        await client.send(frame(PING, 0, 0, b"12345678") + frame(GOAWAY, 0, 0, word(0) + word(0)))
        gate.set()
        frames = await frames_until_closed(client)
        assert [found.stream_id for found in frames if type(found).__name__ == "RstStreamFrame"] == [7]
        assert sorted(found.stream_id for found in frames if "END_STREAM" in found.flags) == [1, 3, 5]


async def test_the_window_that_is_configured():
    options = {"http2_window": 1000, "http2_connection_window": 100000, "lifespan": "off"}
    async with serving(answering(), **options) as server, http2(server) as client:
        await client.until(lambda: client.h2.remote_settings.initial_window_size == 1000, "the setting")
        number = client.request(method="POST", end=False)
        await client.send(number, bytes(50000), end=True)
        assert (await client.answer(number)).status == 200


def test_limits_are_those_of_the_configuration():
    config = Config(http2_streams=1, http2_window=2, http2_connection_window=3, http2_resets=4, http2_control_frames=5)
    assert limits_of(config) == (config.limits, 1, 2, 3, 4, 5)


async def test_nothing_is_left_of_connections_that_ended():
    """Requests in every state, cut off: no task, no count, no connection remains."""

    async def application(scope, receive, send):
        if scope["type"] == "websocket":
            await echo()(scope, receive, send)
        elif scope["path"] == "/reads":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif scope["path"] == "/writes":
            with contextlib.suppress(ClientDisconnected):
                await send({"type": "http.response.start", "status": 200})
                while True:
                    await send({"type": "http.response.body", "body": bytes(10000), "more_body": True})
        else:
            await answering()(scope, receive, send)

    async with serving(application, lifespan="off") as server:
        context = server._context
        for _ in range(5):
            async with http2(server, False, {SettingCodes.INITIAL_WINDOW_SIZE: 1000}) as client:
                socket = await Socket.asked(client)
                await socket.accepted()
                for path in ("/reads", "/writes", "/", "/"):
                    client.request(path)
                client.request("/reads", method="POST", end=False)
                await client.get()
                assert context.running >= 3
                client.abort()
        await until(lambda: not (context.running or context.connections or context.tasks), "the end of everything")


async def test_random_frames_break_nothing():
    """Valid and damaged frames in any order: each connection ends, and the server goes on."""
    source = random.Random(9113)

    async def application(scope, receive, send):
        await (echo() if scope["type"] == "websocket" else answering())(scope, receive, send)

    pieces = [
        headers(1), headers(3, POST, END_HEADERS), headers(5), frame(DATA, 0, 3, bytes(100)), frame(DATA, 1, 3, b"end"),
        settings((4, 0)), settings((4, 2**31 - 1)), frame(PING, 0, 0, b"12345678"), frame(RST_STREAM, 0, 1, word(8)),
        frame(8, 0, 0, word(1000)), frame(8, 0, 3, word(2**31 - 1)), frame(0x16, 0, 9, b"unknown"),
        headers(7, [(":method", "CONNECT"), (":protocol", "websocket"), *POST[1:], ("sec-websocket-version", "13")], 4),
        frame(DATA, 0, 7, b"\x81\x80\0\0\0\0"),
    ]  # fmt: skip
    async with serving(application, lifespan="off") as server:
        for _ in range(60):
            async with connect(server) as client:
                data = bytearray(b"".join(source.choices(pieces, k=8)))
                for _ in range(source.choice((0, 0, 1, 5))):
                    data[source.randrange(len(data))] = source.randrange(256)
                with contextlib.suppress(ConnectionError):
                    await client.send(START + bytes(data))
                    await client.send(frame(GOAWAY, 0, 0, word(0) + word(0)))
        async with http2(server) as client:
            assert (await client.get()).body == b"ok"


def test_tls_offers_what_clients_of_http_2_demand(authority):
    """RFC 9113 section 9.2: TLS 1.2 or newer, no compression, no renegotiation."""
    from fastchannels.server.tls import TlsFiles, tls_context

    certificate, key = authority.issue("localhost")
    context = tls_context(TlsFiles(certificate=certificate, key=key), ("h2", "http/1.1"))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
