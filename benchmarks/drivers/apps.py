"""Raw ASGI applications that every server under test runs."""

from __future__ import annotations

import asyncio

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]


async def hello(scope, receive, send) -> None:
    """``Hello, world!`` for each request."""
    if scope["type"] != "http":
        raise RuntimeError(f"no application for {scope['type']}")
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def echo(scope, receive, send) -> None:
    """Each WebSocket payload back as it came."""
    if scope["type"] != "websocket":
        raise RuntimeError(f"no application for {scope['type']}")
    while True:
        event = await receive()
        if event["type"] == "websocket.receive":
            text = event.get("text")
            if text is not None:
                await send({"type": "websocket.send", "text": text})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"]})
        elif event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            return


FLOOD = 250 * 1024 * 1024


async def flood(scope, receive, send) -> None:
    """250 MiB to a client that may not read them, by HTTP or WebSocket."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    await receive()
    piece = bytes(65536)
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        for _ in range(FLOOD // len(piece)):
            await send({"type": "websocket.send", "bytes": piece})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(FLOOD // len(piece)):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def deaf(scope, receive, send) -> None:
    """Accepts, or waits with its answer, and reads nothing."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    await asyncio.sleep(3600)
