"""One WebSocket between its connection and who serves it: what happens for each read, each message and each answer.

An ASGI application gets :class:`Mailbox` as ``receive`` and :class:`Sender` as ``send``. A read tells its messages, lets
the application run at once when it waits for them, and then writes all that it answered by one call of the system.
"""

import asyncio
import inspect
import sys
from asyncio import coroutines, current_task

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_CheckExact, PyDict_GetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.limits cimport LLONG_MAX
from libc.stdint cimport uint8_t

from fastchannels._core.awaited cimport NEW, OVER, RETURNS, YIELDS, Acts, Awaited
from fastchannels._core.websocket cimport FINISHED, OPEN, WebSocketConnection
from fastchannels._core.wire cimport Clock, Sink, Wire

cdef extern from "Python.h":
    int PyIter_Send(object iterator, object value, PyObject **result) except -1
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef enum:
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PONG = 10
    # Messages, and bytes in them, that wait for the application before the client is read no further.
    WINDOW = 32
    WINDOW_BYTES = 64 * 1024
    # Bytes of answers that are written before the turn ends.
    OUT_BYTES = 64 * 1024


def _marks():
    """What makes ``iscoroutinefunction`` say yes, for those who warn when it does not."""
    class Marked:
        pass

    marked = Marked()  # a function of ours is compiled, and takes no marks
    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(marked)
    return {"_is_coroutine": getattr(coroutines, "_is_coroutine", None), **vars(marked)}


cdef class FrameStream(Sink):
    """The half of a socket that its frames go through; a subclass has the handshake, the time-outs and the end.

    The connection, or ``take``, gives it what was read. Messages go into ``mailbox`` when there is one, else to
    ``on_text`` and ``on_binary``.
    """

    def __cinit__(self, connection, *_arguments):
        self.connection = connection
        if isinstance(connection, Wire):
            self.wire = connection
        self.clock = connection.context.wheel
        self.messages_allowed = self.bytes_allowed = LLONG_MAX

    # What comes in.

    def feed(self, data):
        """Take bytes of the client."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.take(<const uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    # HOT: ws echo
    cdef int take(self, const uint8_t *data, Py_ssize_t size) except -1:
        cdef bint outer = self.in_turn
        if self.ws is None:
            self.early(PyBytes_FromStringAndSize(<const char *>data, size))
            return 0
        self.heard = self.clock.now
        self.bytes_in += size
        if self.behind or self.ending:
            # It was on its way when reading was held.
            if not self.ending:
                self.rest = (self.rest or b"") + PyBytes_FromStringAndSize(<const char *>data, size)
            return 0
        self.in_turn = True
        try:
            self.consume(data, size)
        finally:
            self.in_turn = outer
            if not outer:
                self.depart()
        if self.messages_in > self.messages_allowed or self.bytes_in > self.bytes_allowed:
            self.over_rate()
        return 0

    cdef int consume(self, const uint8_t *data, Py_ssize_t size) except -1:
        cdef WebSocketConnection ws = self.ws
        cdef Mailbox mailbox
        cdef Py_ssize_t used
        cdef bint told
        while True:
            used = ws.receive(data, size, WINDOW)
            data += used
            size -= used
            told = self.tell()
            mailbox = self.mailbox
            if mailbox is not None and told:
                mailbox.wake()
            if ws.ending():
                self.client_ends(told)
                return 0
            if mailbox is not None and not self.behind and (
                len(mailbox.letters) - mailbox.first >= WINDOW or mailbox.weight > WINDOW_BYTES
            ):
                self.fall_behind()
            if size == 0 or self.closed:
                return 0
            if self.behind:
                self.rest = PyBytes_FromStringAndSize(<const char *>data, size)
                return 0

    cdef bint tell(self) except -1:
        # Hand on the messages that are here; whether there was any.
        cdef list events = self.ws.events
        cdef bint told = False
        cdef Mailbox mailbox = self.mailbox
        if not events:
            return False
        self.ws.events = []
        for event in events:
            kind = <int>(<tuple>event)[0]
            payload = (<tuple>event)[1]
            if kind == TEXT or kind == BINARY:
                if self.closing:
                    continue
                told = True
                self.messages_in += 1
                if mailbox is None:
                    if kind == TEXT:
                        self.on_text(payload)
                    else:
                        self.on_binary(payload)
                elif kind == TEXT:
                    mailbox.put({"type": "websocket.receive", "text": payload}, len(<str>payload))
                else:
                    mailbox.put({"type": "websocket.receive", "bytes": payload}, PyBytes_GET_SIZE(payload))
            elif kind == PONG:
                self.pinged = 0.0
            elif kind == CLOSE:
                self.socket_ends(payload[0], payload[1])
        return told

    def fall_behind(self):
        """Messages wait for who serves the socket: read no further until ``catch_up``."""
        if not self.behind:
            self.behind = True
            self.hold()

    def put_off(self, bytes data not None):
        """Look at ``data``, which came before all else, at ``catch_up`` only."""
        self.behind = True
        self.rest = data

    def catch_up(self):
        """End of ``fall_behind``: go on with what was read, and read on."""
        if self.behind:
            self.more()
            if not self.in_turn:
                self.depart()

    def end_now(self):
        """Answer the end that the client asked for, and tell it."""
        self.ending = False
        self.ws.end()
        self.tell()
        if not self.in_turn:
            self.depart()

    cdef int more(self) except -1:
        cdef bytes rest
        cdef bint outer = self.in_turn
        self.in_turn = True
        try:
            self.behind = False
            rest, self.rest = self.rest, None
            if rest is not None and not self.closed:
                self.consume(<const uint8_t *>PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
            if not self.behind:
                self.go_on()
        finally:
            self.in_turn = outer
        return 0

    # What goes out.

    def send_text(self, text):  # HOT: ws echo
        """Send a message of text. Only between the accept and the end."""
        self.ws.send_text(text)
        self.sent()

    def send_binary(self, data):
        """Send a binary message. Only between the accept and the end."""
        self.ws.send_bytes(data)
        self.sent()

    def send_frame(self, bytes whole not None):
        """Send a frame that was built for several sockets."""
        self.ws.send_frame(whole)
        self.sent()

    def flush(self):
        """Let a control frame that was sent leave, unless a turn gathers it."""
        if not self.in_turn:
            self.flush_out()

    cdef int sent(self) except -1:
        self.messages_out += 1
        if self.slow():
            self.keep_back(True)
        elif not self.in_turn:
            self.flush_out()
        elif self.ws.size > OUT_BYTES or self.ws.last is not None:
            self.ws.push(self.wire) if self.wire is not None else self.flush_out()
        return 0

    cdef bint slow(self) except -1:
        if self.backlog is not None:
            return True
        return self.wire.write_paused if self.wire is not None else self.connection.write_paused

    cdef int flush_out(self) except -1:
        # Outside a turn the transport gathers: other answers of this turn of the loop may follow.
        if self.backlog is not None:
            self.keep_back(False)
        elif self.wire is not None and self.ws.last is not None:
            self.ws.push(self.wire)
        else:
            for part in self.ws.data_to_send():
                self.connection.write(part)
        return 0

    # HOT: ws echo. The end of a turn: all that was sent in it leaves.
    cdef int depart(self) except -1:
        cdef WebSocketConnection ws = self.ws
        if self.wire is None:
            self.flush_out()
        elif ws.size or ws.parts is not None:
            if self.backlog is None:
                ws.push(self.wire)
            else:
                self.keep_back(False)
        if ws.state == FINISHED:
            self.connection.close_after_answer()
        return 0

    cdef int post(self, message) except -1:  # HOT: ws echo
        cdef object text, data
        if (
            self.accepted and not self.closing and not self.closed
            and value_of(message, "type") == "websocket.send"
        ):
            text = value_of(message, "text")
            data = value_of(message, "bytes")
            if text is not None and data is None:
                self.ws.send_text(text)
            elif data is not None and text is None:
                if not isinstance(data, (bytes, bytearray, memoryview)):
                    raise TypeError(f"bytes of a frame: bytes are needed, not {type(data).__name__}")
                self.ws.send_bytes(data)
            else:
                raise ValueError("websocket.send needs one of text and bytes")
            self.sent()
        else:
            self.send_other(message)
        return 0


cdef object value_of(message, str key):
    cdef PyObject *value
    if PyDict_CheckExact(message):
        value = PyDict_GetItem(message, key)
        return None if value == NULL else <object>value
    return message.get(key)


cdef class Mailbox:
    """``receive`` of an ASGI application: the messages of a socket, in order, which nobody else takes.

    ``await receive()`` gives the next; after ``websocket.disconnect``, the last one, it waits for ever. A receive that
    is cancelled takes nothing.
    """

    def __cinit__(self, FrameStream stream, loop):
        self.stream = stream
        self.loop = loop
        self.letters = []

    def __call__(self):
        cdef Awaited receive = Awaited.__new__(Awaited)
        receive.acts = &RECEIVE
        receive.owner = self
        return receive

    def __getattr__(self, name):
        if name in MARKS:
            return MARKS[name]
        raise AttributeError(name)

    def __len__(self):
        return len(self.letters) - self.first

    @property
    def idle(self):
        """All messages were taken, and the application waits for the next."""
        return self.waiters is not None and len(self.letters) == self.first

    def deliver(self, dict letter not None):
        """Add a message that counts for nothing, and wake who waits."""
        self.put(letter, 0)
        self.wake()

    cdef int put(self, dict letter, Py_ssize_t weight) except -1:
        self.letters.append(letter)
        self.weight += weight
        return 0

    # HOT: ws echo. None: there is no message.
    cdef dict take(self):
        cdef list letters = self.letters
        cdef dict letter
        cdef FrameStream stream
        if self.first == len(letters):
            stream = self.stream
            if stream.behind:
                stream.catch_up()
            elif stream.ending:
                stream.end_now()
            letters = self.letters
            if self.first == len(letters):
                return None
        letter = letters[self.first]
        letters[self.first] = None
        self.first += 1
        if self.first == len(letters):
            letters.clear()
            self.first = 0
            self.weight = 0
        return letter

    # Who waits goes on now when no task runs, which is so in a read; else in the next turn of the loop. What is taken
    # is decided when it goes on, so all are woken.
    cdef int wake(self) except -1:
        cdef list waiters = self.waiters
        cdef bint now
        if waiters is None:
            return 0
        self.waiters = None
        now = not self.task_runs()
        for waiter in waiters:
            if waiter.done():
                continue
            callbacks = waiter._callbacks if now else None
            if callbacks is None or len(callbacks) != 1 or type((<tuple>callbacks[0])[0]) is not WAKEUP:
                waiter.set_result(None)
                continue
            # The task's own step, with a future that is done in place of this one. This one nobody else knows, so that
            # it serves the next wait.
            step, context = <tuple>callbacks[0]
            waiter.remove_done_callback(step)
            self.spare = waiter
            PyContext_Enter(context)
            try:
                step(done_future(self.loop))
            except BaseException as error:
                # It ends the loop, which is for the loop's own callback to do.
                self.loop.call_soon(throw, error)
            finally:
                PyContext_Exit(context)
        return 0

    cdef bint task_runs(self) except -1:
        if current_tasks is not None:
            return PyDict_GetItem(current_tasks, self.loop) != NULL
        return current_task(self.loop) is not None

    cdef int leave(self, waiter) except -1:
        if self.waiters is not None and waiter in self.waiters:
            self.waiters.remove(waiter)
            if not self.waiters:
                self.waiters = None
        return 0


cdef object done_loop = None, done = None


cdef object done_future(loop):
    """A future of ``loop`` that is done, with None."""
    global done_loop, done
    if loop is not done_loop:
        done = loop.create_future()
        done.set_result(None)
        done_loop = loop
    return done


def throw(error):
    raise error


cdef int receive_leaves(Awaited receive) except -1:
    if receive.inner is not None:
        (<Mailbox>receive.owner).leave(receive.inner)
        receive.inner = None
    return 0


# HOT: ws echo. ``await receive()``; what it waits for is a future.
cdef int receive_step(Awaited receive, object value, PyObject **result) except -1:
    cdef Mailbox mailbox = <Mailbox>receive.owner
    cdef object waiter = receive.inner
    cdef object outcome
    if waiter is not None:
        # The step of a task comes here when it may go on; another driver may come too early.
        if mailbox.waiters is not None and waiter in mailbox.waiters and not waiter.done():
            waiter._asyncio_future_blocking = True
            Py_INCREF(waiter)
            result[0] = <PyObject *>waiter
            return YIELDS
        receive.inner = None
        mailbox.leave(waiter)
    outcome = mailbox.take()
    if outcome is None:
        waiter, mailbox.spare = mailbox.spare, None
        if waiter is None:
            waiter = mailbox.loop.create_future()
        waiter._asyncio_future_blocking = True
        receive.inner = waiter
        if mailbox.waiters is None:
            mailbox.waiters = [waiter]
        else:
            mailbox.waiters.append(waiter)
        Py_INCREF(waiter)
        result[0] = <PyObject *>waiter
        return YIELDS
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return RETURNS


cdef Acts RECEIVE
RECEIVE.step = receive_step
RECEIVE.raises = NULL
RECEIVE.leaves = receive_leaves


cdef class Sender:
    """``send`` of an ASGI application. Waits while the client reads too slowly.

    Raises ``ClientDisconnected`` when the client left a while ago, ``ValueError`` or ``TypeError`` for a message that
    does not belong here, ``RuntimeError`` after the application's own end.
    """

    def __cinit__(self, FrameStream stream):
        self.stream = stream

    def __call__(self, message):
        cdef Awaited send = Awaited.__new__(Awaited)
        send.acts = &SEND
        send.owner = self.stream
        send.given = message
        return send

    def __getattr__(self, name):
        if name in MARKS:
            return MARKS[name]
        raise AttributeError(name)


# HOT: ws echo. ``await send(message)``.
cdef int send_step(Awaited send, object value, PyObject **result) except -1:
    cdef FrameStream stream = <FrameStream>send.owner
    if send.state == NEW:
        send.state = OVER
        stream.post(send.given)
        if not stream.slow() or not stream.waits_for_room():
            Py_INCREF(None)
            result[0] = <PyObject *>None
            return RETURNS
        send.inner = stream.connection.drain().__await__()
    elif send.inner is None:
        raise RuntimeError("a send is awaited once")
    return PyIter_Send(send.inner, value, result)


cdef Acts SEND
SEND.step = send_step
SEND.raises = NULL
SEND.leaves = NULL


cdef dict MARKS = _marks()
# The step of a task that waits for a future is a C function in CPython's tasks; other callbacks want their own future.
cdef type WAKEUP = type(len)
# Up to Python 3.11 ``current_task`` is slow; the dict it looks into is not.
cdef dict current_tasks = asyncio.tasks._current_tasks if sys.version_info < (3, 12) else None
