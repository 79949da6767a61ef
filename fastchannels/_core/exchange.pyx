"""The run of an ASGI application for one request."""

import asyncio
import sys
from asyncio import CancelledError
from asyncio.tasks import _enter_task, _leave_task

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from fastchannels._core.awaited cimport (
    NEW,
    OVER,
    RETURNS,
    STEPPING,
    WAITING,
    YIELDS,
    Acts,
    Awaited,
    driven,
    run_leaves,
    run_raises,
    run_step,
)
from fastchannels._core.http cimport Request
from fastchannels._core.http1 cimport Http1, HttpStream, Shared

from fastchannels._core.http1 import HOLD_BODY
from fastchannels.exceptions import ClientDisconnected

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    int PyIter_Send(object iterator, object value, PyObject **result) except -1

cdef extern from *:
    """
    static PyObject *fc_new(PyObject *type, PyObject *nothing) {
        return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, nothing, NULL);
    }
    """
    object fc_new(object type, object nothing)

cdef enum:
    # What became of a message of the application.
    DONE = 0
    WAITS = 1  # for room, before the application goes on
    OTHER = 2  # it is none of the two that answer every request

# How a task may take its first step before its constructor returns (see ``Exchange.run``).
cdef enum:
    LATER        # 3.10: a task of ours cannot be given its context afterwards
    BY_HOOKS     # 3.11
    BY_ARGUMENT  # 3.12

cdef int EAGER = BY_ARGUMENT if sys.version_info >= (3, 12) else BY_HOOKS if sys.version_info >= (3, 11) else LATER


cdef dict ASGI = {"version": "3.0", "spec_version": "2.5"}


def make_scope(connection, Request request not None, str kind not None, state):  # HOT: http hello
    """The scope of a request or a socket; a subclass of its bridge adds what its kind needs."""
    cdef Http1 wire = connection if isinstance(connection, Http1) else None
    cdef str scheme = wire.scheme if wire is not None else connection.scheme
    cdef Shared shared = wire.context if wire is not None else connection.context
    if kind == "websocket":
        scheme = "wss" if scheme == "https" else "ws"
    cdef dict scope = {
        "type": kind,
        "asgi": ASGI.copy(),
        "http_version": request.version,
        "scheme": scheme,
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "root_path": shared.root_path if request.root_path is None else request.root_path,
        "headers": request.headers,
        "client": wire.client if wire is not None else connection.client,
        "server": wire.server if wire is not None else connection.server,
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


cdef class Served:
    """An ``application``, and what its lifespan keeps for it: its ``state``, or None."""


cdef class Exchange(HttpStream):
    """One request, answered by a run of an ASGI application (ASGI HTTP 2.5).

    The application runs at once, in a context of its own and as a task of its loop: ``asyncio.current_task()`` is the
    same in all its steps. One that never waits costs no turn of the loop.
    """

    def __init__(self, connection, Request request not None, bridge):
        HttpStream.__init__(self, connection, request)
        self.bridge = bridge
        self.shared = self.wire.context if self.wire is not None else connection.context
        self._more = True
        self.waits_for_continue = request.expect_continue and not request.complete
        self.timeout = self.shared.http_timeout

    def begin(self):
        self.run()

    cdef object call(self):
        # What awaits the application.
        cdef Request request = self.request
        cdef dict scope = make_scope(self.connection, request, "http", self.bridge.state)
        scope["method"] = request.method
        cdef dict extensions = self.wire.extensions if self.wire is not None else self.connection.extensions
        extensions = extensions.copy()
        if request.version == "1.0":
            extensions.pop("http.response.early_hint", None)
        elif request.te_trailers and self.wire is not None:
            extensions["http.response.trailers"] = {}
        scope["extensions"] = extensions
        return driven(self.bridge.application(scope, self.receive, self.send))

    cdef int run(self) except -1:  # HOT: http hello
        cdef PyObject *result = NULL
        cdef int status
        cdef object context, task, loop
        cdef Awaited run
        cdef Shared shared = self.shared
        if self.timeout > 0:
            self.progress()
        loop = shared.loop
        if shared.eager is None:
            # A loop that makes its tasks itself is left to do so.
            shared.eager = EAGER != LATER and loop.get_task_factory() is None
        if EAGER != BY_HOOKS or not shared.eager:
            return self.run_as_task(loop, shared.eager)

        # The first step, as the task that ``current_task`` names. That is made a real one only when somebody asks it
        # for more than its identity, or when the step ends in a wait.
        context = PyContext_CopyCurrent()
        task = fc_new(FirstStep, ())
        run = run_of(self)
        set_run(task, (run, loop, context))
        PyContext_Enter(context)
        try:
            _enter_task(loop, task)
        except RuntimeError:  # inside another task's step
            PyContext_Exit(context)
            set_run(task, None)
            return self.run_as_task(loop, False)
        self.in_first_step = True
        run.state = STEPPING
        try:
            run.given = self.call()
            status = PyIter_Send(run.given, None, &result)
        except BaseException as error:
            status = -1
            failure = error
        self.in_first_step = False
        _leave_task(loop, task)
        PyContext_Exit(context)
        if status == YIELDS:
            run.inner = <object>result
            Py_DECREF(run.inner)
            run.state = WAITING
            task.begin()
            self.task = task
            shared.tasks.add(task)
            if self.head is not None:
                shared.flush_soon(self)
            return 0
        run.state = OVER
        run.given = None
        if status == RETURNS:
            Py_DECREF(<object>result)
            self.ended(None)
        else:
            try:
                self.ended(failure)
            except CancelledError:
                pass
            except BaseException as error:
                # To whoever runs the loop, as from any task.
                loop.call_soon(raise_again, error)
        return 0

    cdef int run_as_task(self, loop, bint eager) except -1:
        cdef Awaited run = run_of(self)
        cdef Shared shared = self.shared
        self.in_first_step = eager
        task = asyncio.Task(run, loop=loop, eager_start=True) if eager else loop.create_task(run)
        self.in_first_step = False
        if not task.done():
            self.task = task
            shared.tasks.add(task)
            if self.head is not None:
                shared.flush_soon(self)
        return 0

    # The application is over: what it leaves behind is put right, and what must go on is raised.
    cdef int ended(self, error) except -1:
        cdef Shared shared = self.shared
        try:
            if error is None:
                if not (self.done or self.disconnected):
                    self.returned_early()
            elif isinstance(error, ClientDisconnected):
                pass  # the server told the application so itself (ASGI 2.4)
            elif isinstance(error, Exception):
                self.raised(error)
            else:
                self.fail(500)
                raise error
        finally:
            if self.task is not None:
                shared.tasks.discard(self.task)
            if shared.stopping:
                shared.note_end()
        return 0

    # From the connection.

    def on_body(self, bytes data not None):
        if self.chunks is None:
            self.chunks = []
        self.chunks.append(data)
        self._buffered += len(data)
        if self._buffered > self.shared.request_buffer_size:
            self.connection.hold(HOLD_BODY)
        if self.timeout > 0:
            self.progress()
        self.wake()

    def on_body_end(self):
        self.wake()

    def on_end(self):
        self.over()

    cdef int over(self) except -1:
        if self.timeout > 0 or self.disconnected:
            self.settle()
        if self.waiters is not None:
            self.wake()
        return 0

    def wake(self):
        """Let those look again who wait in ``receive``."""
        if self.waiters is not None:
            waiters, self.waiters = self.waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # For the application.

    def receive(self):
        """``http.request`` until the body is complete, then ``http.disconnect`` when all is over (D-60)."""
        cdef Awaited call = Awaited.__new__(Awaited)
        call.acts = &CALL
        call.owner = self
        return call

    def send(self, message not None):  # HOT: http hello
        """Take a message of the application. Waits while the client reads too slowly.

        Raises ``ClientDisconnected`` when the client left (D-58), ``ValueError`` or ``TypeError`` for a message that
        does not belong here.
        """
        cdef Awaited call = Awaited.__new__(Awaited)
        call.acts = &CALL
        call.owner = self
        call.given = message
        return call

    def poll(self):
        """What ``receive`` gives now, or None."""
        return self.message()

    # None: there is nothing to tell yet.
    cdef object message(self):
        if self._more and (self.chunks is not None or self.body_complete):
            body = b""
            if self.chunks is not None:
                body = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
                self.chunks = None
                self._buffered = 0
                self.connection.release(HOLD_BODY)
            self._more = not self.body_complete
            return {"type": "http.request", "body": body, "more_body": self._more}
        if self.disconnected or self.done:
            return {"type": "http.disconnect"}
        return None

    cdef int take(self, message) except -1:  # HOT: http hello
        # Almost always a dict, whose look-ups are compiled then; anything that is like one will do.
        cdef dict given = message if type(message) is dict else dict(message)
        cdef object kind = given.get("type")
        if kind == "http.response.body":
            if not self.started or self.body_over or self.disconnected:
                self.refuse(kind)
            body = given.get("body", b"")
            if type(body) is not bytes:
                body = self.as_bytes(body)
            self.put(body, given.get("more_body", False))
            if self.timeout > 0 and not self.done:
                self.progress()
            if self.wire.write_paused if self.wire is not None else self.connection.write_paused:
                return WAITS
            return DONE
        if kind == "http.response.start":
            if self.started or self.disconnected:
                self.refuse(kind)
            if "status" not in given:
                raise ValueError("http.response.start without a status")
            self.start(given["status"], given.get("headers", ()))
            if given.get("trailers", False):
                self.expect_trailers()
            if not self.in_first_step:
                # The first piece of the body normally follows at once and takes the head along.
                self.shared.flush_soon(self)
            return DONE
        return OTHER


def raise_again(error):
    raise error


cdef object exchange_calls(owner):
    return (<Exchange>owner).call()


cdef int exchange_ends(owner, error) except -1:
    (<Exchange>owner).ended(error)
    return 0


cdef int exchange_step(Awaited run, value, PyObject **result) except -1:
    return run_step(run, value, result, exchange_calls, exchange_ends)


cdef object exchange_raises(Awaited run, error):
    return run_raises(run, error, exchange_ends)


# Runs the application of an exchange: the coroutine of its task.
cdef Acts RUN
RUN.step = exchange_step
RUN.raises = exchange_raises
RUN.leaves = run_leaves


cdef Awaited run_of(Exchange exchange):
    cdef Awaited run = Awaited.__new__(Awaited)
    run.acts = &RUN
    run.owner = exchange
    return run


# HOT: http hello. ``await receive()`` or ``await send(message)``.
cdef int call_step(Awaited call, value, PyObject **result) except -1:
    cdef Exchange exchange = <Exchange>call.owner
    cdef object outcome = None
    cdef int taken
    if call.inner is None:
        if call.state != NEW:
            raise RuntimeError("cannot reuse already awaited coroutine")
        call.state = OVER
        if call.given is not None:
            taken = exchange.take(call.given)
            if taken == WAITS:
                call.inner = exchange.drained()
            elif taken == OTHER:
                call.inner = exchange.send_other(call.given)
        else:
            outcome = exchange.message()
            if outcome is None:
                call.inner = exchange.next_message()
        if call.inner is None:
            Py_INCREF(outcome)
            result[0] = <PyObject *>outcome
            return RETURNS
    return PyIter_Send(call.inner, value, result)


cdef Acts CALL
CALL.step = call_step
CALL.raises = NULL
CALL.leaves = NULL


class FirstStep(asyncio.Task):
    """The task of an application that has not waited yet.

    It is not set up, which is most of what a task costs, until it is needed: whoever asks it for anything finds a task
    like any other. ``run`` is None from then on.
    """

    __slots__ = ("run",)

    def __getattribute__(self, name):
        if get_run(self) is not None:
            begin_task(self)
        return task_attribute(self, name)

    def begin(self):
        """Have been set up, and go on in the next turn of the loop."""


cdef object get_run = FirstStep.__dict__["run"].__get__
cdef object set_run = FirstStep.__dict__["run"].__set__
cdef object task_attribute = asyncio.Task.__getattribute__
cdef object task_init = asyncio.Task.__init__


cdef int begin_task(task) except -1:
    run, loop, context = get_run(task)
    set_run(task, None)
    task_init(task, run, loop=loop, context=context)
    return 0
