"""A client of HTTP/2 for the tests, by the h2 library; every wait has a deadline."""

from __future__ import annotations

import asyncio
import contextlib

import h2.config
import h2.connection
import h2.events
from h2.connection import ConnectionInputs, ConnectionState

from tests.server.support import DEADLINE, port_of


class Answer:
    """What came back on one stream."""

    def __init__(self):
        self.status = None
        self.headers = []
        self.interim = []
        self.body = bytearray()
        self.trailers = None
        self.ended = False
        self.reset = None

    @property
    def over(self):
        return self.ended or self.reset is not None

    def header(self, name):
        return dict(self.headers).get(name)


class Http2Client:
    """``windows`` false leaves the flow control to the test: nothing is acknowledged."""

    def __init__(self, reader, writer, windows=True, settings=None):
        self.reader = reader
        self.writer = writer
        self.windows = windows
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.answers: dict[int, Answer] = {}
        self.goaway = None
        self.closed = False
        self.pings = []
        self.changed = asyncio.Event()
        self.h2.initiate_connection()
        # The library takes GOAWAY for the end of all, though answers follow it (RFC 9113 section 6.8).
        machine = self.h2.state_machine
        going = (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY)
        machine._transitions = {**machine._transitions, going: (None, ConnectionState.CLIENT_OPEN)}
        if settings:
            self.h2.update_settings(settings)
        self.flush()
        self.task = asyncio.ensure_future(self._read())

    def flush(self):
        if data := self.h2.data_to_send():
            self.writer.write(data)

    def raw(self, data):
        """Bytes past the library."""
        self.writer.write(data)

    async def _read(self):
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._on_event(event)
                self.flush()
                self.changed.set()
        self.closed = True
        self.changed.set()

    def _on_event(self, event):
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = (event.error_code, event.last_stream_id, event.additional_data)
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings.append(event.ping_data)
        elif answer is None:
            return
        elif isinstance(event, h2.events.InformationalResponseReceived):
            answer.interim.append(_texts(event.headers))
        elif isinstance(event, h2.events.ResponseReceived):
            answer.headers = _texts(event.headers)
            answer.status = int(answer.header(":status"))
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.windows and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = _texts(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    async def until(self, condition, what="the condition"):
        """Wait until ``condition()`` is true."""

        async def wait():
            while not condition():
                if self.closed:
                    raise AssertionError(f"the server closed before {what}")
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(wait(), DEADLINE)
        except asyncio.TimeoutError:
            raise AssertionError(f"{what} did not come true in {DEADLINE} s") from None

    async def until_closed(self):
        await asyncio.wait_for(asyncio.shield(self.task), DEADLINE)

    def request(self, path="/", *headers, method="GET", end=True, **pseudo):
        """Begin a request; returns the number of its stream."""
        number = self.h2.get_next_available_stream_id()
        fields = {":method": method, ":scheme": "http", ":path": path, ":authority": "host.example"}
        fields.update((f":{name}", value) for name, value in pseudo.items())
        self.answers[number] = Answer()
        self.h2.send_headers(number, [*fields.items(), *headers], end_stream=end)
        self.flush()
        return number

    async def get(self, path="/", *headers, **options) -> Answer:
        """A request and its whole answer."""
        return await self.answer(self.request(path, *headers, **options))

    async def answer(self, number) -> Answer:
        """Wait for the end of a stream."""
        await self.until(lambda: self.answers[number].over, f"the end of stream {number}")
        return self.answers[number]

    async def send(self, number, data, end=False):
        """Send data as the server's windows allow."""
        view = memoryview(data)
        while view or end:
            if view:
                await self.until(lambda: self.h2.local_flow_control_window(number) > 0, "a window")
            size = min(len(view), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            last = end and size == len(view)
            self.h2.send_data(number, bytes(view[:size]), end_stream=last)
            self.flush()
            view = view[size:]
            if last:
                break

    def reset(self, number, code=8):
        self.h2.reset_stream(number, code)
        self.flush()

    def abort(self):
        self.writer.transport.abort()


def _texts(headers):
    return [tuple(part.decode("latin-1") if isinstance(part, bytes) else part for part in field) for field in headers]


@contextlib.asynccontextmanager
async def http2(server, windows=True, settings=None, **options):
    """A connection with prior knowledge, or over TLS when ``ssl`` is among the options."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port_of(server), **options), DEADLINE)
    client = Http2Client(reader, writer, windows, settings)
    try:
        yield client
    finally:
        writer.close()
        client.task.cancel()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await client.task
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(writer.wait_closed(), DEADLINE)
