"""Counters of a running server, and their text for Prometheus (exposition format 0.0.4).

Written plainly: the format is lines of text, and what counts here are integers of one thread, which a library of
metrics would put behind locks. Most are counted anyway; a response costs a few additions more.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from fastchannels.server.bridge_channels import ChannelBridge

if TYPE_CHECKING:
    from fastchannels.server.config import Context
    from fastchannels.server.protocol import Connection
    from fastchannels.server.stream import HttpStream
    from fastchannels.server.websocket_stream import WebSocketStream

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
#: Upper bounds in seconds.
LATENCIES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAGS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_LAG_INTERVAL: Final = 0.5


class Histogram:
    """How many values were at most each bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count ``value``."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """All that were counted."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The bound below which ``share`` of the values lie; None without values or beyond the last bound."""
        wanted, seen = share * self.count, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted and seen:
                return bound
        return None


class Metrics:
    """What one server did since its start."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.started = time.time()
        #: By the first digit of the status.
        self.responses = [0] * 10
        self.latency = Histogram(LATENCIES)
        self.lag = Histogram(LAGS)
        #: Open ones.
        self.sockets: set[WebSocketStream] = set()
        self.opened = self.rejected = 0
        self.closed: Counter[int] = Counter()
        # Of sockets and connections that have ended.
        self._messages_in = self._messages_out = 0
        self._bytes_in = self._bytes_out = 0
        # Not the loop's clock, which uvloop reads once a turn.
        self._due = monotonic() + _LAG_INTERVAL
        self._timer: asyncio.TimerHandle = context.loop.call_later(_LAG_INTERVAL, self._tick)

    def stop(self) -> None:
        """No longer look how late the event loop is."""
        self._timer.cancel()

    # ------------------------------------------------------------ what happens

    def response(self, stream: HttpStream) -> None:  # HOT: http hello, with an admin address
        """``stream`` is complete."""
        self.responses[stream.status // 100] += 1
        elapsed = monotonic() - stream.since
        latency = self.latency
        latency.counts[bisect_left(LATENCIES, elapsed)] += 1
        latency.total += elapsed

    def socket(self, socket: WebSocketStream, action: str, code: int) -> None:
        """A step of ``socket``, as the access log names them."""
        if action == "connected":
            self.opened += 1
            self.sockets.add(socket)
        elif action == "rejected":
            self.rejected += 1
        elif action == "disconnected" and socket in self.sockets:
            self.sockets.discard(socket)
            self.closed[code] += 1
            self._messages_in += socket.messages_in
            self._messages_out += socket.messages_out

    def connection_ended(self, connection: Connection) -> None:
        """``connection`` is gone."""
        self._bytes_in += connection.bytes_in
        self._bytes_out += connection.bytes_out

    def _tick(self) -> None:
        now = monotonic()
        self.lag.add(max(now - self._due, 0.0))
        self._due = now + _LAG_INTERVAL
        self._timer = self._context.loop.call_later(_LAG_INTERVAL, self._tick)

    # ------------------------------------------------------------ what is told

    def snapshot(self) -> dict[str, Any]:
        """The numbers of the moment, without histograms."""
        context = self._context
        sockets, connections = self.sockets, context.connections
        found: dict[str, Any] = {
            "pid": os.getpid(),
            "uptime": time.time() - self.started,
            "stopping": context.stopping,
            "connections": len(connections),
            "connections_accepted": context.gate.accepted,
            "running": context.running,
            "sockets": len(sockets),
            "sockets_opened": self.opened,
            "sockets_rejected": self.rejected,
            "sockets_closed": dict(self.closed),
            "responses": {f"{digit}xx": count for digit, count in enumerate(self.responses) if count},
            "messages_in": self._messages_in + sum(socket.messages_in for socket in sockets),
            "messages_out": self._messages_out + sum(socket.messages_out for socket in sockets),
            "bytes_in": self._bytes_in + sum(connection.bytes_in for connection in connections),
            "bytes_out": self._bytes_out + sum(connection.bytes_out for connection in connections),
            "drops": dict(context.drops.counts),
        }
        bridge = context.bridge
        if isinstance(bridge, ChannelBridge):
            found["events_dropped"] = dict(bridge.dropped)
            found["channel_waiting"] = {channel: lane.waiting for channel, lane in bridge.lanes.items()}
            found["channel_waited"] = {channel: lane.waited for channel, lane in bridge.lanes.items()}
            statistics = getattr(bridge.layer, "statistics", None)
            found["layer"] = statistics() if statistics is not None else {}
        return found

    def text(self) -> str:
        """All of it for Prometheus."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        now = self.snapshot()
        yield from _family("up_seconds", "gauge", "Seconds since the start.", [("", now["uptime"])])
        yield from _family("draining", "gauge", "1 while the server stops.", [("", int(now["stopping"]))])
        yield from _family("connections", "gauge", "Open connections.", [("", now["connections"])])
        yield from _family(
            "connections_accepted_total", "counter", "Accepted connections.", [("", now["connections_accepted"])]
        )
        yield from _family("running", "gauge", "Open requests and sockets.", [("", now["running"])])
        yield from _family("websockets", "gauge", "Open WebSockets.", [("", now["sockets"])])
        yield from _family("websockets_opened_total", "counter", "Accepted WebSockets.", [("", now["sockets_opened"])])
        yield from _family(
            "websockets_rejected_total", "counter", "Handshakes that were refused.", [("", now["sockets_rejected"])]
        )
        yield from _family(
            "websockets_closed_total", "counter", "Ended WebSockets by code.", _by("code", now["sockets_closed"])
        )
        yield from _family(
            "http_responses_total", "counter", "Complete responses by class.", _by("status", now["responses"])
        )
        yield from _histogram("http_request_seconds", "From a request's head to its response's end.", self.latency)
        for name, what in (("messages", "Messages of WebSockets"), ("bytes", "Bytes of connections")):
            for way in ("in", "out"):
                yield from _family(f"{name}_{way}_total", "counter", f"{what}, {way}.", [("", now[f"{name}_{way}"])])
        yield from _family(
            "drops_total", "counter", "What was refused, cut or dropped, by reason.", _by("reason", now["drops"])
        )
        yield from _histogram("event_loop_lag_seconds", "How late the event loop calls what is due.", self.lag)
        if "layer" in now:
            yield from _family(
                "events_dropped_total",
                "counter",
                "Events of sockets that no consumer finished, by reason.",
                _by("reason", now["events_dropped"]),
            )
            yield from _family(
                "channel_waiting", "gauge", "What waits for room in a channel.", _by("channel", now["channel_waiting"])
            )
            yield from _family(
                "channel_waited_total",
                "counter",
                "What had to wait for room in a channel.",
                _by("channel", now["channel_waited"]),
            )
            yield from _layer(now["layer"])


def _layer(statistics: Mapping[str, Any]) -> Iterator[str]:
    """What the channel layer counts; tables of it by reason."""
    for name, value in statistics.items():
        if isinstance(value, Mapping):
            counts = {key: count for key, count in value.items() if isinstance(count, (int, float))}
            yield from _family(f"layer_{name}_total", "counter", f"{name} of the layer.", _by("reason", counts))
        elif isinstance(value, (int, float)):
            kind = "gauge" if name.endswith("pending") else "counter"
            end = "" if kind == "gauge" else "_total"
            yield from _family(f"layer_{name}{end}", kind, f"{name} of the layer.", [("", value)])


def _by(label: str, counts: Mapping[Any, float]) -> list[tuple[str, float]]:
    return [(f'{{{label}="{_escape(str(key))}"}}', count) for key, count in sorted(counts.items(), key=str)]


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _family(name: str, kind: str, what: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP fastchannels_{name} {what}"
    yield f"# TYPE fastchannels_{name} {kind}"
    for labels, value in samples:
        yield f"fastchannels_{name}{labels} {value:.15g}"


def _histogram(name: str, what: str, histogram: Histogram) -> Iterator[str]:
    yield f"# HELP fastchannels_{name} {what}"
    yield f"# TYPE fastchannels_{name} histogram"
    seen = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        seen += count
        shown = "+Inf" if bound == float("inf") else f"{bound:g}"
        yield f'fastchannels_{name}_bucket{{le="{shown}"}} {seen}'
    yield f"fastchannels_{name}_sum {histogram.total:.10g}"
    yield f"fastchannels_{name}_count {seen}"
