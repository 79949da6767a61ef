"""What is counted, and its text."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
import websockets

from fastchannels.envelope import ACK, EVENT, REPLIES
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.server.metrics import Histogram
from tests.server.support import DEADLINE, connect, port_of, serving, until

SAMPLE = re.compile(r'fastchannels_\w+(\{\w+="(\\.|[^"\\])*"\})? -?[0-9.e+-]+')


def parse(text):
    """The samples, by name with labels. Fails for what is no text of Prometheus."""
    samples, families = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in families
            families[name] = kind
        elif not line.startswith("# HELP "):
            assert SAMPLE.fullmatch(line), line
            name, _, value = line.rpartition(" ")
            assert name not in samples
            base = re.sub("_(bucket|sum|count)$", "", name.partition("{")[0])
            kind = families.get(name.partition("{")[0]) or families[base]
            assert kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == name.partition("{")[0].endswith("_total")
            samples[name.removeprefix("fastchannels_")] = float(value)
    return samples


def test_histogram():
    histogram = Histogram((1.0, 2.0))
    assert histogram.quantile(0.5) is None
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert histogram.counts == [2, 1, 1]
    assert (histogram.count, histogram.total) == (4, 12.0)
    assert histogram.quantile(0.5) == 1.0
    assert histogram.quantile(0.75) == 2.0
    assert histogram.quantile(0.99) is None


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        if scope["path"] == "/no":
            return await send({"type": "websocket.close"})
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
        return None
    if scope["path"] == "/slow":
        time.sleep(0.15)  # noqa: ASYNC251 - on the loop, as a fault would
    status = 404 if scope["path"] == "/404" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_a_server_counts():
    async with serving(application, admin="0") as server:
        metrics = server._admin.metrics
        async with connect(server) as client:
            await client.get()
            await client.get("/404")
            await client.get("/slow")
            url = f"ws://127.0.0.1:{port_of(server)}"
            async with websockets.connect(url, compression=None) as ended:
                await ended.send("abc")
                await ended.recv()
                await ended.close(4001)
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(f"{url}/no")
            async with websockets.connect(url, compression=None) as open_socket:
                for _ in range(3):
                    await open_socket.send("x" * 1000)
                    await open_socket.recv()
                await until(lambda: metrics.closed, "the end of the first socket")
                server._context.drops.note('we"ird\\', "a test")
                samples = parse(metrics.text())
                assert samples["websockets"] == 1
                assert samples["running"] == 1
                assert samples["connections"] >= 2
        assert samples["connections_accepted_total"] == 4
        assert samples['http_responses_total{status="2xx"}'] == 2
        assert samples['http_responses_total{status="4xx"}'] == 1
        assert samples["http_request_seconds_count"] == samples['http_request_seconds_bucket{le="+Inf"}'] == 3
        assert samples['http_request_seconds_bucket{le="0.1"}'] <= 2
        assert samples["http_request_seconds_sum"] > 0.15
        assert samples["websockets_opened_total"] == 2
        assert samples["websockets_rejected_total"] == 1
        assert samples['websockets_closed_total{code="4001"}'] == 1
        assert samples["messages_in_total"] == samples["messages_out_total"] == 4
        assert 3000 < samples["bytes_in_total"] < 10000
        assert 3000 < samples["bytes_out_total"] < 10000
        assert samples['drops_total{reason="we\\"ird\\\\"}'] == 1
        assert samples["draining"] == 0
        await until(lambda: not server._context.connections, "all ends")
        after = parse(metrics.text())
        assert after["websockets"] == after["connections"] == after["running"] == 0
        assert after["bytes_in_total"] >= samples["bytes_in_total"], "what has ended still counts"
        assert after["messages_in_total"] == 4


async def test_event_loop_lag():
    async with serving(application, admin="0") as server:
        lag = server._admin.metrics.lag
        await until(lambda: lag.count, "the first look")
        time.sleep(0.9)  # noqa: ASYNC251 - what is measured
        await until(lambda: lag.count > 1, "the second look")
        assert lag.counts[-1] == 0
        assert 0.2 < lag.total < 2


async def test_channel_mode():
    layer = InMemoryChannelLayer()
    async with serving(layer=layer, admin="0") as server:
        handshake = asyncio.ensure_future(websockets.connect(f"ws://127.0.0.1:{port_of(server)}/").__aenter__())
        message = await asyncio.wait_for(layer.receive("websocket.connect"), DEADLINE)
        await layer.send(message["reply_channel"], {ACK: message[EVENT], REPLIES: [{"accept": True}, {"text": "a"}]})
        client = await asyncio.wait_for(handshake, DEADLINE)
        assert await asyncio.wait_for(client.recv(), DEADLINE) == "a"
        samples = parse(server._admin.metrics.text())
        assert samples["layer_messages_count_total"] == 2
        assert samples["layer_messages_pending"] == 0
        assert samples["messages_out_total"] == 1
        assert samples['channel_waiting{channel="websocket.connect"}'] == 0
        assert samples['channel_waited_total{channel="http.request"}'] == 0
        client.transport.abort()
