"""``receive`` and ``send`` of a socket's application, and the frames between them and a connection."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import iscoroutinefunction

from fastchannels._core import ws
from fastchannels._core.socket import FrameStream, Mailbox, Sender
from fastchannels._core.websocket import WebSocketConnection
from fastchannels._core.wire import Clock
from fastchannels.exceptions import ClientDisconnected

KEY = b"\x01\x80\xff\x7f"


class Context:
    wheel = Clock()


class Carrier:
    """A connection that notes what happens to it."""

    context = Context()

    def __init__(self):
        self.written = b""
        self.write_paused = False
        self.room = asyncio.Event()
        self.calls = []

    def write(self, data):
        self.calls.append("write")
        self.written += data

    async def drain(self):
        await self.room.wait()
        self.write_paused = False

    def close_after_answer(self):
        self.calls.append("end")


class Stream(FrameStream):
    """A socket that is accepted; its ends and holds are noted."""

    def __init__(self, connection):
        self.ws = WebSocketConnection(1 << 20)
        self.accepted = True
        self.noted = []
        self.ended = []

    def hold(self):
        self.noted.append("hold")

    def go_on(self):
        self.noted.append("go on")

    def client_ends(self, told):
        if told and not self.mailbox.idle:
            self.ending = True
        else:
            self.end_now()

    def socket_ends(self, code, reason):
        self.closed = True
        self.ended.append((code, reason))
        if self.mailbox is not None:
            self.mailbox.deliver({"type": "websocket.disconnect", "code": code})

    def send_other(self, message):
        raise ClientDisconnected(str(message))

    def keep_back(self, message):
        self.noted.append(("kept", message, b"".join(self.ws.data_to_send())))

    def waits_for_room(self):
        return True


async def make():
    stream = Stream(Carrier())
    stream.mailbox = Mailbox(stream, asyncio.get_running_loop())
    return stream


def masked(opcode, payload=b"", **options):
    return ws.frame(opcode, payload, key=KEY, **options)


async def echo(stream, receive, send):
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def in_the_loop(function, *arguments):
    """Call from the loop itself, where no task runs, as a transport does."""
    asyncio.get_running_loop().call_soon(function, *arguments)


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


class TestTurns:
    async def test_answers_to_one_read_leave_in_one_write(self):
        stream = await make()
        task = asyncio.ensure_future(echo(stream, stream.mailbox, Sender(stream)))
        await turns()
        in_the_loop(stream.feed, b"".join(masked(1, f"{n}") for n in range(16)))
        await turns(1)
        assert stream.connection.calls == ["write"]
        assert stream.connection.written == b"".join(ws.frame(1, f"{n}") for n in range(16))
        task.cancel()

    async def test_inside_a_task_the_application_goes_on_in_the_next_turn(self):
        stream = await make()
        task = asyncio.ensure_future(echo(stream, stream.mailbox, Sender(stream)))
        await turns()
        stream.feed(masked(1, "hi"))
        assert stream.connection.written == b""
        await turns()
        assert stream.connection.written == ws.frame(1, "hi")
        task.cancel()

    async def test_what_came_before_the_close_is_answered_before_it(self):
        stream = await make()
        task = asyncio.ensure_future(echo(stream, stream.mailbox, Sender(stream)))
        await turns()
        in_the_loop(stream.feed, masked(1, "last") + masked(8, b"\x03\xe8"))
        await asyncio.wait_for(task, 5)
        assert stream.connection.written == ws.frame(1, "last") + ws.frame(8, b"\x03\xe8")
        assert stream.connection.calls[-1] == "end"
        assert stream.ended == [(1000, "")]

    async def test_also_by_an_application_that_takes_its_time(self):
        stream = await make()
        receive, send = stream.mailbox, Sender(stream)

        async def slow():
            message = await receive()
            await asyncio.sleep(0)
            await send({"type": "websocket.send", "text": message["text"]})
            return await receive()

        task = asyncio.ensure_future(slow())
        await turns()
        in_the_loop(stream.feed, masked(1, "last") + b"\x83\x80" + KEY)
        assert (await asyncio.wait_for(task, 5))["code"] == 1002
        assert stream.connection.written.startswith(ws.frame(1, "last") + b"\x88")

    async def test_the_window_holds_the_reading_and_keeps_the_rest(self):
        stream = await make()
        frames = b"".join(masked(1, f"{n}") for n in range(1000))
        stream.feed(frames)
        assert len(stream.mailbox) == 32
        assert stream.noted == ["hold"]
        stream.feed(masked(1, "late"))
        got = []
        for _ in range(1001):
            got.append((await stream.mailbox())["text"])
        assert got == [*map(str, range(1000)), "late"]
        assert stream.noted[-1] == "go on"

    async def test_what_came_early_stays_before_what_comes_later(self):
        stream = await make()
        stream.put_off(masked(1, "first"))
        stream.feed(masked(1, "second"))
        assert len(stream.mailbox) == 0
        stream.catch_up()
        assert [(await stream.mailbox())["text"] for _ in range(2)] == ["first", "second"]
        assert stream.noted == ["go on"]


class TestReceive:
    async def test_a_cancelled_receive_takes_nothing(self):
        stream = await make()
        task = asyncio.ensure_future(stream.mailbox())
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        in_the_loop(stream.feed, masked(1, "kept"))
        assert (await asyncio.wait_for(stream.mailbox(), 5))["text"] == "kept"

    async def test_cancelled_when_its_message_is_here(self):
        stream = await make()
        task = asyncio.ensure_future(stream.mailbox())
        await turns()
        stream.feed(masked(1, "kept"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await asyncio.wait_for(stream.mailbox(), 5))["text"] == "kept"

    async def test_wait_for(self):
        stream = await make()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.mailbox(), 0.01)
        stream.feed(masked(2, b"x"))
        assert (await asyncio.wait_for(stream.mailbox(), 5)) == {"type": "websocket.receive", "bytes": b"x"}

    async def test_each_of_several_gets_one(self):
        stream = await make()
        tasks = [asyncio.ensure_future(stream.mailbox()) for _ in range(3)]
        await turns()
        in_the_loop(stream.feed, masked(1, "a") + masked(1, "b"))
        in_the_loop(stream.feed, masked(1, "c"))
        got = await asyncio.wait_for(asyncio.gather(*tasks), 5)
        assert [message["text"] for message in got] == ["a", "b", "c"]

    async def test_the_context_of_the_task_is_its_own(self):
        import contextvars

        variable = contextvars.ContextVar("variable", default="none")
        stream = await make()
        seen = []

        async def application():
            variable.set("mine")
            await stream.mailbox()
            seen.append(variable.get())

        task = asyncio.ensure_future(application())
        await turns()
        in_the_loop(stream.feed, masked(1, "x"))
        await asyncio.wait_for(task, 5)
        assert seen == ["mine"]
        assert variable.get() == "none"

    async def test_an_error_of_the_application_is_its_tasks(self):
        stream = await make()

        async def application():
            await stream.mailbox()
            raise LookupError("mine")

        task = asyncio.ensure_future(application())
        await turns()
        in_the_loop(stream.feed, masked(1, "x"))
        with pytest.raises(LookupError):
            await asyncio.wait_for(task, 5)

    async def test_by_hand_as_a_coroutine(self):
        stream = await make()
        stream.feed(masked(1, "x"))
        receive = stream.mailbox()
        with pytest.raises(StopIteration) as caught:
            receive.send(None)
        assert caught.value.value["text"] == "x"
        waiting = stream.mailbox()
        assert waiting.send(None) is not None
        waiting.close()
        assert not stream.mailbox.idle
        with pytest.raises(KeyError):
            stream.mailbox().throw(KeyError("thrown"))


class TestSend:
    async def test_nothing_happens_before_the_await(self):
        stream = await make()
        send = Sender(stream)({"type": "websocket.send", "text": "later"})
        assert stream.connection.written == b""
        await send
        assert stream.connection.written == ws.frame(1, "later")
        with pytest.raises(RuntimeError):
            await send

    async def test_as_a_task(self):
        stream = await make()
        await asyncio.gather(*(Sender(stream)({"type": "websocket.send", "bytes": b"%d" % n}) for n in range(3)))
        assert stream.connection.written == b"".join(ws.frame(2, b"%d" % n) for n in range(3))

    @pytest.mark.parametrize(
        ("message", "error"),
        [
            ({"type": "websocket.send"}, ValueError),
            ({"type": "websocket.send", "text": "a", "bytes": b"b"}, ValueError),
            ({"type": "websocket.send", "text": b"a"}, TypeError),
            ({"type": "websocket.send", "bytes": "a"}, TypeError),
            ({"type": "other"}, ClientDisconnected),
        ],
    )
    async def test_faults(self, message, error):
        stream = await make()
        with pytest.raises(error):
            await Sender(stream)(message)
        assert stream.connection.written == b""

    async def test_waits_for_room(self):
        stream = await make()
        stream.connection.write_paused = True
        task = asyncio.ensure_future(Sender(stream)({"type": "websocket.send", "text": "x"}))
        await turns()
        assert stream.noted == [("kept", True, ws.frame(1, "x"))]
        assert not task.done()
        stream.connection.room.set()
        await asyncio.wait_for(task, 5)

    async def test_cancelled_while_it_waits(self):
        stream = await make()
        stream.connection.write_paused = True
        task = asyncio.ensure_future(Sender(stream)({"type": "websocket.send", "text": "x"}))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_both_are_coroutine_functions_for_who_asks():
    stream = await make()
    for function in (stream.mailbox, Sender(stream)):
        assert iscoroutinefunction(function)
        with pytest.raises(AttributeError):
            function.other  # noqa: B018
    receive = stream.mailbox()
    assert asyncio.iscoroutine(receive)
    receive.close()
