"""What all streams of channel mode share."""

from __future__ import annotations

import asyncio
import logging

from fastchannels.exceptions import LayerUnavailable
from fastchannels.server.bridge_channels import ChannelBridge
from fastchannels.server.config import Config, Context
from tests.server.channel_support import Layer, accepting, open_socket, take, worker
from tests.server.support import serving, until


async def test_the_end_of_the_server_is_told_to_workers():
    layer = Layer()
    async with (
        serving(layer=layer, graceful_timeout=0.2) as server,
        worker(layer, accepting, ["connect"]),
        open_socket(server),
    ):
        bridge = server._context.bridge
        await until(lambda: bridge.sockets, "the socket")
        assert bridge.unfinished
        await server.stop()
        assert not bridge.sockets
    assert (await take(layer, "websocket.disconnect"))["code"] in (1001, 1006, 1012)


async def test_a_layer_that_is_away_does_not_hold_the_end_up(caplog):
    bridge = ChannelBridge(Context(Config()), Layer())

    class Socket:
        told = False

        async def tell(self):
            await asyncio.sleep(60)
            raise LayerUnavailable

        def finish(self):
            bridge.sockets.discard(self)

    bridge.sockets.add(Socket())
    with caplog.at_level(logging.WARNING):
        await bridge.finish(0.05)
    assert bridge.sockets == set()
    assert "1 sockets end without a disconnect message" in caplog.text
