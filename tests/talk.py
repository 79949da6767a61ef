"""What the tests of the talk's modules share: a layer in memory, and a way to read what was sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastchannels import envelope
from fastchannels.asgi import ChannelLayerWrapper
from fastchannels.channel import Frame, pending_message_store
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.message import Message
from fastchannels.worker import Worker

#: A name that the layer in memory takes as an ordinary channel, so that a test can read it.
REPLY = "replies"


def make_layer(routing: Any = (), **options: Any) -> ChannelLayerWrapper:
    return ChannelLayerWrapper(InMemoryChannelLayer(**options), "default", routing)


def make_message(layer: ChannelLayerWrapper, channel: str = "websocket.receive", **content: Any) -> Message:
    return Message({"reply_channel": REPLY, "path": "/", **content}, channel, layer)


def make_event(
    layer: ChannelLayerWrapper,
    channel: str = "websocket.receive",
    event: int = 1,
    session: bytes | None = None,
    **content: Any,
) -> Message:
    return make_message(layer, channel, **event_content(event, session, **content))


def event_content(event: int, session: bytes | None = None, **content: Any) -> dict[str, Any]:
    """The content of a socket's event, as the protocol server sends it."""
    if session is not None:
        content[envelope.SESSION] = session
    return {"reply_channel": REPLY, "path": "/", **content, envelope.EVENT: event}


def sent(layer: ChannelLayerWrapper, channel: str = REPLY) -> list[dict[str, Any]]:
    """What waits on ``channel``; it is taken off."""
    found = []
    while True:
        _, message = layer.receive_many([channel])
        if message is None:
            return found
        found.append(message)


def ack(event: int, *replies: dict[str, Any], session: bytes | None = None) -> dict[str, Any]:
    note: dict[str, Any] = {envelope.ACK: event, envelope.REPLIES: list(replies)}
    if session is not None:
        note[envelope.SESSION] = session
    return note


@contextmanager
def inside_a_consumer() -> Iterator[Frame]:
    """Sends are held until the block ends."""
    pending_message_store.prepare()
    frame = pending_message_store.frame
    assert frame is not None
    try:
        yield frame
    finally:
        pending_message_store.send_and_flush()


def handle(layer: ChannelLayerWrapper, channel: str, content: dict[str, Any], **options: Any) -> None:
    Worker(layer, signal_handlers=False, **options).handle(channel, content)


def eventually(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        pause.wait(0.01)
