"""What the members of a group share, and how its messages reach their sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import zlib
from collections import deque

import pytest

from fastchannels._core.fanout import Fanout, Member
from fastchannels._core.inbox import Inbox
from fastchannels._core.msgpack import pack, unpack
from fastchannels._core.websocket import WebSocketConnection
from fastchannels._core.wire import Wire
from tests.core.test_socket import Carrier, Context, Stream

DEADLINE = 10.0


class Pipe(Wire):
    """A connection over one end of a socket pair; ``peer`` is the other end."""

    context = Context()

    def __init__(self, plain=True):
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.setblocking(False)
        self.transport = self
        self.waiting = b""
        self.calls = []
        self.fd = self.ours.fileno() if plain else -1

    def get_write_buffer_size(self):
        return len(self.waiting)

    def write_soon(self, data):
        self.calls.append(len(data))
        self.waiting += data

    def read(self):
        """What has come, and what the transport sends after it."""
        got = b""
        while True:
            try:
                got += self.peer.recv(1 << 20)
            except BlockingIOError:
                rest, self.waiting = self.waiting, b""
                return got + rest

    def close_after_answer(self):
        self.calls.append("end")

    def end(self):
        self.ours.close()
        self.peer.close()


class Transport:
    """What a Pipe gives the rest of a write to."""

    def __init__(self, pipe):
        self.write = pipe.write_soon
        self.get_write_buffer_size = pipe.get_write_buffer_size


class Socket(Stream):
    """A socket that agreed on a window of ``bits``."""

    def __init__(self, connection, bits=0):
        super().__init__(connection)
        self.ws = WebSocketConnection(1 << 20, deflate=bits)


class Room:
    """Members on one inbox, and what their bridge was asked about each."""

    def __init__(self, typed=False):
        self.inbox = Inbox(capacity_of=lambda name: 100, expiry=60.0, decode=unpack)
        self.fanout = Fanout(typed)
        self.streams = []
        self.asked = []
        self.pipes = []

    def enter(self, stream):
        name = f"n{len(self.streams)}"
        self.streams.append(stream)
        self.inbox.attach(name, Member(stream, self.fanout, lambda message: self.asked.append((stream, message))))
        return stream

    def pipe(self, bits=0, plain=True):
        pipe = Pipe(plain)
        pipe.transport = Transport(pipe)
        self.pipes.append(pipe)
        self.enter(Socket(pipe, bits))
        return pipe

    def say(self, message):
        self.inbox.fan_out([f"n{n}" for n in range(len(self.streams))], pack(message))


@pytest.fixture
def room():
    made = Room()
    yield made
    for pipe in made.pipes:
        pipe.end()


async def turn():
    """The next turn of the loop, and what was asked to run in it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_frames_are_made_once_for_each_agreement():
    fanout = Fanout()
    message, other = {"text": "hi"}, {"bytes": b"hi"}
    frame = fanout.frame_of(message, "hi", 0)
    assert frame == b"\x81\x02hi"
    assert fanout.frame_of(message, "hi", 0) is frame
    assert fanout.frame_of(other, b"hi", 0) == b"\x82\x02hi"
    assert fanout.frame_of(other, b"", 0) == b"\x82\x02hi", "of the message, not of the arguments"
    long = {"text": "hello " * 100}
    packed = fanout.frame_of(long, long["text"], 15)
    assert zlib.decompressobj(wbits=-15).decompress(packed[2:] + b"\0\0\xff\xff") == long["text"].encode()
    assert fanout.frame_of(long, long["text"], 0)[4:] == long["text"].encode()
    assert fanout.frame_of(long, long["text"], 15) is packed, "compressed once"
    await turn()
    assert fanout.frame_of(long, long["text"], 15) is not packed, "let go of with the turn"


async def test_a_ready_message_goes_to_all_and_nobody_is_asked(room):
    pipes = [room.pipe(bits) for bits in (0, 15, 0, 15)]
    other = room.enter(Socket(Carrier()))
    text = "hello " * 100
    room.say({"text": text})
    written = [pipe.read() for pipe in pipes]
    assert written[0] == written[2] == other.connection.written
    assert written[0][4:] == text.encode()
    assert written[1] == written[3]
    assert len(written[1]) < 40
    room.say({"bytes": b"now"})
    await turn()
    assert [pipe.read() for pipe in pipes] == [b"\x82\x03now"] * 4
    assert room.asked == []
    assert [stream.messages_out for stream in room.streams] == [2] * 5


async def test_the_first_message_of_a_turn_leaves_at_once_and_the_rest_together(room):
    pipe = room.pipe()
    for number in range(4):
        room.say({"text": str(number)})
    assert pipe.read() == b"\x81\x010"
    room.streams[0].ws.send_ping(b"?")
    room.say({"text": "4"})
    await turn()
    assert pipe.read() == b"\x81\x011\x81\x012\x81\x013\x89\x01?\x81\x014"
    room.say({"text": "5"})
    assert pipe.read() == b"\x81\x015", "a new turn"
    room.say({"text": "6"})
    room.streams[0].send_text("direct")
    assert pipe.waiting == b"\x81\x016\x81\x06direct"
    await turn()
    assert pipe.read() == b"\x81\x016\x81\x06direct", "nothing leaves twice"


async def test_large_messages_of_one_turn_keep_their_order(room):
    pipe = room.pipe()
    payloads = [bytes([number]) * 70_000 for number in range(1, 8)]
    for payload in payloads:
        room.say({"bytes": payload})
    await turn()
    written = pipe.read()
    assert written == b"".join(b"\x82\x7f" + len(payload).to_bytes(8, "big") + payload for payload in payloads)


async def test_what_is_written_through_a_transport_is_given_to_it(room):
    pipe = room.pipe(plain=False)
    room.say({"text": "a"})
    room.say({"text": "b"})
    assert pipe.waiting == b"\x81\x01a\x81\x01b"
    assert pipe.calls == [3, 3]


@pytest.mark.parametrize(
    "message",
    [
        {"text": "hi", "close": True}, {"text": "hi", "accept": True}, {"text": "hi", "unknown": 1}, {"close": True},
        {"text": "hi", "bytes": b"hi"}, {"text": 1}, {"bytes": "hi"}, {"text": None}, {},
        {"type": "websocket.send", "text": "hi"},
    ],
)  # fmt: skip
async def test_any_other_message_is_decided_on_for_each(room, message):
    room.pipe()
    room.pipe()
    room.say(message)
    assert room.asked == [(stream, message) for stream in room.streams]
    assert room.asked[0][1] is room.asked[1][1]
    assert [pipe.read() for pipe in room.pipes] == [b"", b""]


async def test_a_message_to_one_socket_is_decided_on(room):
    room.pipe()
    room.inbox.put("n0", pack({"text": "hi"}))
    assert room.asked == [(room.streams[0], {"text": "hi"})]


@pytest.mark.parametrize("state", ["closing", "closed", "no handshake", "close sent"])
async def test_a_socket_that_is_not_open_is_decided_on(room, state):
    pipe, stream = room.pipe(), room.streams[0]
    if state == "no handshake":
        stream.ws = None
    elif state == "close sent":
        stream.ws.send_close()
        stream.ws.data_to_send()
    else:
        setattr(stream, state, True)
    room.say({"text": "hi"})
    assert room.asked == [(stream, {"text": "hi"})]
    assert pipe.read() == b""


async def test_a_slow_socket_keeps_back_and_the_others_go_on(room):
    slow, fast = room.pipe(), room.pipe()
    slow.write_paused = True
    room.say({"text": "a"})
    room.streams[0].backlog = deque()
    slow.write_paused = False
    room.say({"text": "b"})
    await turn()
    assert room.streams[0].noted == [("kept", True, b"\x81\x01a"), ("kept", True, b"\x81\x01b")]
    assert fast.read() == b"\x81\x01a\x81\x01b"


async def test_one_that_becomes_slow_within_a_turn_keeps_back_what_was_gathered(room):
    pipe = room.pipe()
    large = bytes(70_000)
    room.say({"text": "a"})
    room.say({"bytes": large})
    room.say({"text": "b"})
    pipe.write_paused = True
    await turn()
    kept = [frame for _, _, frame in room.streams[0].noted]
    assert [len(frame) for frame in kept] == [70_010, 3]
    assert pipe.read() == b"\x81\x01a"


async def test_the_end_of_a_socket_within_a_turn(room):
    gone, closing, open_ = room.pipe(), room.pipe(), room.pipe()
    for text in ("a", "b"):
        room.say({"text": text})
    room.streams[0].closed = gone.closed = True
    room.streams[1].ws.send_close(1000)
    room.streams[1].closing = True
    room.streams[1].flush()
    await turn()
    assert gone.read() == b"\x81\x01a"
    assert closing.read() == b"\x81\x01a\x81\x01b\x88\x02\x03\xe8", "what was sent before the close frame"
    assert open_.read() == b"\x81\x01a\x81\x01b"


async def test_a_write_that_fails_stops_no_other(room, caplog):
    broken, whole = room.pipe(), room.pipe()
    broken.fd = -1

    def fail(data):
        raise OSError("broken")

    room.say({"text": "a"})
    broken.transport.write = fail
    room.streams[0].ws.send_ping(b"")
    with caplog.at_level(logging.ERROR):
        room.say({"text": "b"})
        await turn()
    assert "could not be written" in caplog.text
    assert whole.read() == b"\x81\x01a\x81\x01b"


async def test_a_full_pipe_hands_the_rest_to_its_transport(room):
    pipe = room.pipe()
    payload = bytes(4_000_000)
    room.say({"bytes": payload})
    assert 0 < len(pipe.waiting) < len(payload)
    room.say({"text": "b"})
    await turn()
    assert pipe.read() == b"\x82\x7f" + len(payload).to_bytes(8, "big") + payload + b"\x81\x01b"


class TestAhead:
    """Sockets whose channel has a reader, past whom ready messages go."""

    READY = {"type": "websocket.send", "text": "hi"}

    @pytest.fixture
    def room(self):
        made = Room(typed=True)
        pipe = Pipe()
        pipe.transport = Transport(pipe)
        made.pipes.append(pipe)
        made.streams.append(Socket(pipe))
        made.member = Member(made.streams[0], made.fanout)
        yield made
        pipe.end()

    def both_ways(self, room, message):
        room.say(message)
        room.inbox.put("n0", pack(message))

    async def test_ready_messages_go_ahead_while_the_reader_waits(self, room):
        room.inbox.attach_ahead("n0", room.member)
        waiter = room.inbox.wait("n0")
        self.both_ways(room, self.READY)
        room.inbox.put("n0", pack({"type": "websocket.send", "text": None, "bytes": b"x"}))
        await turn()
        assert room.pipes[0].read() == b"\x81\x02hi\x81\x02hi\x82\x01x"
        assert not waiter.done()
        assert room.inbox.counts()["delivered"] == 3
        room.inbox.unwait("n0", waiter)

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "chat.message", "text": "hi"}, {"text": "hi"}, {"type": "websocket.send", "text": "hi", "n": 1},
            {"type": "websocket.send"}, {"type": "websocket.close"},
        ],
    )  # fmt: skip
    async def test_other_messages_go_to_the_reader_and_what_follows_stays_behind(self, room, message):
        room.inbox.attach_ahead("n0", room.member)
        waiter = room.inbox.wait("n0")
        self.both_ways(room, message)
        self.both_ways(room, self.READY)
        room.inbox.put("n0", pack(message))
        assert waiter.done()
        assert [room.inbox.take("n0") for _ in range(2)] == [message] * 2
        assert room.pipes[0].read() == b"", "the reader has the second in hand"
        room.say(self.READY)
        assert room.inbox.take("n0") == message
        assert room.pipes[0].read() == b"\x81\x02hi\x81\x02hi"
        assert room.inbox.take("n0") is None
        await turn()
        assert room.pipes[0].read() == b"\x81\x02hi"
        room.inbox.unwait("n0", waiter)
        again = room.inbox.wait("n0")
        room.say(self.READY)
        assert room.pipes[0].read() == b"\x81\x02hi"
        assert not again.done()
        assert room.inbox.counts() == {**room.inbox.counts(), "received": 7, "delivered": 7, "pending": 0}
        room.inbox.unwait("n0", again)

    async def test_one_that_is_not_open_leaves_all_to_the_reader(self, room):
        room.inbox.attach_ahead("n0", room.member)
        waiter = room.inbox.wait("n0")
        room.streams[0].ws = None
        self.both_ways(room, self.READY)
        assert room.inbox.unread("n0") == 2
        room.inbox.unwait("n0", waiter)

    async def test_it_ends_with_the_channel_or_by_none(self, room):
        for end in (lambda: room.inbox.attach_ahead("n0", None), lambda: room.inbox.close("n0")):
            room.inbox.attach_ahead("n0", room.member)
            assert room.inbox.is_watched("n0")
            end()
            assert not room.inbox.is_watched("n0")
            waiter = room.inbox.wait("n0")
            self.both_ways(room, self.READY)
            assert [room.inbox.take("n0") for _ in range(2)] == [self.READY] * 2
            room.inbox.unwait("n0", waiter)

    async def test_a_message_from_another_thread_is_looked_at_on_the_loop(self, room):
        room.inbox.attach_ahead("n0", room.member)
        waiter = room.inbox.wait("n0")
        await asyncio.wait_for(asyncio.to_thread(room.say, self.READY), DEADLINE)
        assert room.pipes[0].read() == b""
        assert room.inbox.take("n0") is None
        assert room.pipes[0].read() == b"\x81\x02hi"
        room.inbox.unwait("n0", waiter)

    async def test_a_member_that_fails_leaves_the_message_to_the_reader(self, room, caplog):
        room.inbox.attach_ahead("n0", room.member)
        waiter = room.inbox.wait("n0")

        def fail(data):
            raise OSError("broken")

        room.pipes[0].fd = -1
        room.pipes[0].transport.write = fail
        with caplog.at_level(logging.ERROR):
            room.say(self.READY)
        assert "goes ahead of the readers" in caplog.text
        assert room.inbox.take("n0") == self.READY
        room.inbox.unwait("n0", waiter)


async def test_messages_are_let_go_of(room):
    room.pipe()
    room.say({"text": "a"})
    room.say({"text": "b"})
    await turn()
    assert room.fanout.frame_of({"text": "c"}, "c", 0) == b"\x81\x01c"
