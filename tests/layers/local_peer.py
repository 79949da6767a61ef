"""Another process on a shared segment: ``python local_peer.py <directory> <task>``; says "ready" when it is.

``read``           prints the number of each message of "jobs" that it takes, until one says None
``read-async``     the same on an event loop
``block``          one blocking receive_many of "quiet", then prints what came
``member``         joins "g" with a channel of its own and stays
``stay``           registers and stays until its input ends, then leaves in order
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from fastchannels.layers.local import LocalChannelLayer


def say(text: object) -> None:
    print(text, flush=True)


def read(layer: LocalChannelLayer) -> None:
    say("ready")
    while True:
        _, message = layer.receive_many(["other", "jobs"], block=True)
        assert message is not None
        if message["n"] is None:
            return
        say(message["n"])


async def read_async(layer: LocalChannelLayer) -> None:
    say("ready")
    while (message := await layer.receive("jobs"))["n"] is not None:
        say(message["n"])


async def member(layer: LocalChannelLayer) -> None:
    got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    name = layer.new_local_channel("specific")
    layer.attach(name, got.put_nowait)
    await layer.group_add("g", name)
    say("ready")
    while True:
        say((await got.get())["n"])


def main(path: str, task: str) -> None:
    layer = LocalChannelLayer(path=path, capacity=10_000)
    if task == "read":
        read(layer)
    elif task == "read-async":
        asyncio.run(read_async(layer))
    elif task == "member":
        asyncio.run(member(layer))
    elif task == "block":
        say("ready")
        try:
            say(layer.receive_many(["quiet"], block=True))
        except KeyboardInterrupt:
            say("interrupted")
    elif task == "stay":
        layer.new_local_channel("specific")
        say("ready")
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
