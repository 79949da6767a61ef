"""A connection's way to its transport, over a pair of real sockets."""

from __future__ import annotations

import socket

import pytest

from fastchannels._core.wire import Sink, Timed, Wire


class Transport:
    """Keeps what it is given, as a transport whose client reads slowly."""

    def __init__(self, sock=None, secure=False):
        self.sock = sock
        self.secure = secure
        self.kept = b""

    def get_extra_info(self, name):
        return {"socket": self.sock, "sslcontext": object() if self.secure else None}[name]

    def get_write_buffer_size(self):
        return len(self.kept)

    def write(self, data):
        self.kept += bytes(data)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def wire_on(transport):
    wire = Wire()
    wire.transport = transport
    wire.find_socket()
    return wire


def test_a_plain_socket_is_written_to_at_once(pair):
    ours, theirs = pair
    transport = Transport(ours)
    wire = wire_on(transport)
    wire.write_now(b"one")
    assert theirs.recv(10) == b"one"
    assert transport.kept == b""


@pytest.mark.parametrize("transport", [Transport(), Transport(object(), secure=True)], ids=["no socket", "tls"])
def test_others_go_through_the_transport(transport):
    wire = wire_on(transport)
    assert wire.fd == -1
    wire.write_now(b"one")
    wire.write(b"two")
    assert transport.kept == b"onetwo"


def test_order_holds_while_the_transport_has_something(pair):
    ours, theirs = pair
    transport = Transport(ours)
    wire = wire_on(transport)
    wire.write(b"1")
    wire.write_now(b"2")
    assert transport.kept == b"12"
    ours.send(transport.kept)
    transport.kept = b""
    wire.write_now(b"3")
    assert theirs.recv(10) == b"123"
    assert transport.kept == b""


def test_what_the_system_does_not_take_is_the_transports(pair):
    ours, theirs = pair
    transport = Transport(ours)
    wire = wire_on(transport)
    data = bytes(range(256)) * 40_000
    wire.write_now(data)
    assert 0 < len(transport.kept) < len(data)
    got = b""
    while len(got) < len(data) - len(transport.kept):
        got += theirs.recv(1 << 20)
    assert got + transport.kept == data


def test_a_peer_that_is_gone_is_the_transports_to_find(pair):
    ours, theirs = pair
    theirs.close()
    transport = Transport(ours)
    wire_on(transport).write_now(b"late")
    assert transport.kept == b"late"


def test_nothing_is_written_when_closed(pair):
    transport = Transport(pair[0])
    wire = wire_on(transport)
    wire.closed = True
    wire.write(b"a")
    wire.write_now(b"b")
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        pair[1].recv(10)
    assert transport.kept == b""


def test_reads_go_to_whoever_takes_them():
    got = []

    class Reader(Wire):
        def received(self, data):
            got.append(bytes(data))

    wire = Reader()
    room = bytearray(b"hello world")
    wire.read_into(memoryview(room))
    assert wire.get_buffer(-1) == room
    wire.buffer_updated(5)
    assert got == [b"hello"]
    wire.sink = Sink()
    with pytest.raises(NotImplementedError):
        wire.buffer_updated(5)


def test_timed():
    timed = Timed()
    assert timed.deadline == float("inf")
    with pytest.raises(NotImplementedError):
        timed.expired(0.0)
