"""The negotiation of permessage-deflate, and compressed messages between a server and the client of ``websockets``."""

from __future__ import annotations

import asyncio
import os

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from fastchannels._core.ws import frame
from fastchannels.server.deflate import Agreement, negotiate
from tests.server.support import DEADLINE, UPGRADE, connect, open_socket, serving, websocket_only

BASE = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
KEY = b"\x01\x80\xff\x7f"


@pytest.mark.parametrize(
    ("offers", "agreement"),
    [
        ([b"permessage-deflate"], Agreement(15, BASE)),
        ([b"Permessage-Deflate ; client_max_window_bits"], Agreement(15, BASE)),
        ([b"permessage-deflate; client_max_window_bits=8"], Agreement(15, BASE)),
        ([b'permessage-deflate; server_max_window_bits="10"'], Agreement(10, BASE + b"; server_max_window_bits=10")),
        ([b"permessage-deflate;server_no_context_takeover;client_no_context_takeover"], Agreement(15, BASE)),
        ([b"x-other; a=b", b"permessage-deflate; server_max_window_bits=15"], Agreement(15, BASE)),
        # The first that can be used, when a better one cannot.
        ([b"permessage-deflate; server_max_window_bits=8", b"permessage-deflate"], Agreement(15, BASE)),
        ([], None),
        ([b"x-webkit-deflate-frame"], None),
        ([b"permessage-deflate; server_max_window_bits"], None),
        ([b"permessage-deflate; server_max_window_bits=8"], None),
        ([b"permessage-deflate; server_max_window_bits=16"], None),
        ([b"permessage-deflate; server_max_window_bits=010"], None),
        ([b"permessage-deflate; client_max_window_bits=7"], None),
        ([b"permessage-deflate; client_no_context_takeover=1"], None),
        ([b"permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        ([b"permessage-deflate; unknown"], None),
        ([b"permessage-deflate; ="], None),
        ([b"permessage-deflate;"], None),
    ],
)
def test_offers(offers, agreement):
    assert negotiate(offers) == agreement


@websocket_only
async def echo(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"client_max_window_bits": 9},
        {"server_max_window_bits": 9},
        {"server_max_window_bits": 12, "client_no_context_takeover": True},
        {"server_no_context_takeover": True},
    ],
    ids=str,
)
async def test_echo_with_the_client_of_websockets(options):
    messages = ["", "a", "hello " * 1000, "é" * 100_000, b"", b"\0" * 300_000, os.urandom(1000), "x" * 127, "x" * 128]
    async with (
        serving(echo) as server,
        open_socket(
            server, extensions=[ClientPerMessageDeflateFactory(**options)], compression=None, max_size=None
        ) as client,
    ):
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
        for message in messages * 2:
            await client.send(message)
            assert await asyncio.wait_for(client.recv(), DEADLINE) == message
        await client.send(["frag", "ment", "s" * 1000])
        assert await asyncio.wait_for(client.recv(), DEADLINE) == "fragment" + "s" * 1000


async def test_switched_off():
    async with serving(echo, ws_per_message_deflate=False) as server, open_socket(server) as client:
        assert client.protocol.extensions == []


async def compressed(server, client):
    await client.send(
        (UPGRADE % b"/").replace(b"Upgrade\r\n", b"Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", 1)
    )
    head = await client.read_until(b"\r\n\r\n")
    assert b"Sec-WebSocket-Extensions: " + BASE + b"\r\n" in head


def masked(payload, opcode=2, rsv=0x40):
    whole = bytearray(frame(opcode, payload, key=KEY))
    whole[0] |= rsv
    return bytes(whole)


BOMB = __import__("zlib").compressobj(9, 8, -15)
BOMB = BOMB.compress(bytes(50_000_000)) + BOMB.flush(2)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(BOMB[:-4]), 1009),
        (masked(b"\xff\xff\xff"), 1007),
        (masked(b"\xaa\xd6\x06\x00", opcode=1), None),
        (masked(b"\xfa\x0f\x00", opcode=1), 1007),
        (masked(b"", opcode=9), 1002),
    ],
    ids=["bomb", "no deflate", "text", "no text", "ping"],
)
async def test_what_is_refused(data, code):
    async with serving(echo, ws_max_size=100_000) as server, connect(server) as client:
        await compressed(server, client)
        await client.send(data)
        if code is None:
            assert (await client.read_exactly(2))[0] == 0x81
        else:
            answer = await client.read_all()
            assert answer[0] == 0x88
            assert int.from_bytes(answer[2:4], "big") == code
