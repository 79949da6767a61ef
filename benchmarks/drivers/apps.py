"""Raw ASGI applications that every server under test runs."""

from __future__ import annotations

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
