"""What a type checker must see: `make lint` runs mypy --strict over this file. It is never executed."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from fastchannels._core.inbox import Inbox
from fastchannels._core.names import ShardRing, hash_name, local_part
from fastchannels._core.ws import FrameParser, frame
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer


async def layer_examples(layer: ChannelLayer) -> None:
    assert_type(await layer.new_channel(), str)
    assert_type(await layer.receive("jobs"), dict[str, Any])
    assert_type(layer.receive_many(["jobs"], block=True), tuple[str, dict[str, Any]] | tuple[None, None])
    assert_type(layer.statistics(), dict[str, Any])
    assert_type(InMemoryChannelLayer(expiry=5, channel_capacity={"http.*": 10}), InMemoryChannelLayer)
    await layer.send("jobs", {"type": "job"})
    await layer.send("jobs", "not a dict")  # type: ignore[arg-type]
    layer.send_sync("jobs", {"type": "job"})
    await layer.group_add("room", b"bytes")  # type: ignore[arg-type]


def core_examples(inbox: Inbox) -> None:
    assert_type(inbox.get("a.b!c"), bytes | None)
    assert_type(inbox.put("a.b!c", b""), bool)
    assert_type(hash_name("chat"), int)
    assert_type(local_part("a.b!c"), str)
    assert_type(ShardRing(["redis-1", "redis-2"]).shard_for("chat"), int)
    assert_type(frame(1, "hello"), bytes)
    for event in FrameParser(1024).feed(b""):
        if event[0] == 1:
            assert_type(event[1], str)
        elif event[0] == 8:
            assert_type(event[1], tuple[int | None, str])
        else:
            assert_type(event[1], bytes)
