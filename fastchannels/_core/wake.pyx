"""What a coroutine or a thread waits on until it is woken.

A :class:`Waiter` stands in for ``asyncio.Future`` where thousands are woken at a time: the callbacks of all that are
settled in one turn of a loop run in one callback of that loop, in the order in which they were settled.
"""

import asyncio
import contextvars
import os
import sys
import threading
from asyncio import CancelledError, InvalidStateError

cimport cython
from cpython.ref cimport PyObject

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    PyObject *PyThreadState_GetDict() noexcept
    PyObject *PyDict_GetItemWithError(PyObject *of, object key) except? NULL

cdef object get_running_loop = asyncio._get_running_loop

cdef object copy_context = contextvars.copy_context
cdef object new_lock = threading.Lock
cdef double longest_wait = threading.TIMEOUT_MAX

# The turn that collects waiters until its loop calls it; another thread's loop begins one of its own.
cdef Turn collecting = None

# asyncio keeps, in the dict of each thread, an object that stands for its running loop, and makes it anew whenever a
# loop begins or ends to run: while it is the same, so is the loop. From Python 3.12 on nothing is remembered here.
cdef bint ask_always = sys.version_info >= (3, 12)
cdef str RUNNING = "__asyncio_running_event_loop__"
cdef object known_mark = None, known_loop = None


cpdef object running_loop():
    """The running loop or None. ``asyncio._get_running_loop`` of Python 3.11 asks the kernel for the process each time."""
    global known_mark, known_loop
    cdef PyObject *marks
    cdef PyObject *mark
    if ask_always:
        return get_running_loop()
    marks = PyThreadState_GetDict()
    mark = PyDict_GetItemWithError(marks, RUNNING) if marks != NULL else NULL
    if mark != NULL and mark == <PyObject *> known_mark:
        return known_loop
    loop = get_running_loop()
    if mark != NULL and loop is not None:
        known_mark, known_loop = <object> mark, loop
    return loop


cpdef object current_loop():
    """The running loop; ``RuntimeError`` when there is none."""
    loop = running_loop()
    if loop is None:
        raise RuntimeError("no running event loop")
    return loop


def _forget_loop():
    # The mark is the parent's, and its loop does not run here.
    global known_mark, known_loop
    known_mark = known_loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loop)


cdef class Turn:
    """The waiters that one call from the loop wakes."""

    def __call__(self):
        global collecting
        cdef Py_ssize_t index = 0
        cdef list waiters = self.waiters
        if collecting is self:
            collecting = None
        try:
            while index < len(waiters):
                index += 1
                (<Waiter> waiters[index - 1]).run_callbacks()
        except BaseException:
            # SystemExit or KeyboardInterrupt ends the loop; the rest is woken when it runs again.
            self.waiters = waiters[index:]
            if self.waiters:
                self.loop.call_soon(self)
            raise


@cython.freelist(256)
cdef class Waiter:
    """Awaitable on ``loop``, with the methods of a future that tasks and ``asyncio.wait_for`` use.

    Guarantees what a future does: callbacks run in their contexts, from the loop and never inside the call that settles
    the waiter; cancelling the task that waits cancels it. Settled once; on the thread of its loop.
    """

    def __cinit__(self, loop=None, *_arguments):
        self._loop = loop

    def get_loop(self):
        """The loop whose tasks may wait."""
        return self._loop

    def done(self):
        return self.state != PENDING

    def cancelled(self):
        return self.state == CANCELLED

    def cancel(self, msg=None):
        """False when it was settled before."""
        if self.state != PENDING:
            return False
        self.settle(CANCELLED, msg)
        return True

    def set_result(self, result):
        if self.state != PENDING:
            raise InvalidStateError("settled before")
        self.settle(DONE, result)

    def set_exception(self, error):
        if self.state != PENDING:
            raise InvalidStateError("settled before")
        self.settle(FAILED, error)

    def result(self):
        if self.state == DONE:
            return self._outcome
        if self.state == FAILED:
            raise self._outcome
        if self.state == CANCELLED:
            raise CancelledError() if self._outcome is None else CancelledError(self._outcome)
        raise InvalidStateError("not settled yet")

    def exception(self):
        if self.state == FAILED:
            return self._outcome
        self.result()
        return None

    def add_done_callback(self, callback, *, context=None):
        if context is None:
            context = copy_context()
        if self.state != PENDING:
            self._loop.call_soon(callback, self, context=context)
        elif self._callback is None:
            self._callback = callback
            self._context = context
        else:
            if self._more is None:
                self._more = []
            self._more.append((callback, context))

    def remove_done_callback(self, callback):
        kept = [] if self._callback is None else [(self._callback, self._context)]
        kept += self._more or []
        count = len(kept)
        kept = [pair for pair in kept if pair[0] != callback]
        self._callback, self._context = kept[0] if kept else (None, None)
        self._more = kept[1:] or None
        return count - len(kept)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.state == PENDING:
            self._asyncio_future_blocking = True
            return self
        if self.state == DONE and self._outcome is None:
            raise StopIteration
        raise StopIteration(self.result())

    cdef int settle(self, int state, object outcome) except -1:
        global collecting
        cdef Turn turn = collecting
        self.state = state
        self._outcome = outcome
        if self._callback is None:
            return 0
        if turn is not None and turn.loop is self._loop:
            turn.waiters.append(self)
            return 0
        turn = Turn()
        turn.loop = self._loop
        turn.waiters = [self]
        turn.loop.call_soon(turn)
        collecting = turn
        return 0

    cdef int run_callbacks(self) except -1:
        callback, context, more = self._callback, self._context, self._more
        if callback is None:
            return 0
        self._callback = self._context = self._more = None
        call(self, callback, context)
        if more is not None:
            for callback, context in more:
                call(self, callback, context)
        return 0


cdef int call(Waiter waiter, object callback, object context) except -1:
    PyContext_Enter(context)
    try:
        callback(waiter)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        waiter._loop.call_exception_handler(
            {"message": f"Exception in callback {callback!r}", "exception": error, "future": waiter}
        )
    finally:
        PyContext_Exit(context)
    return 0


cdef class ThreadWaiter:
    """Blocks one thread until a name it waits for may have something."""

    def __cinit__(self):
        self._lock = new_lock()
        self._lock.acquire()

    cdef void wake(self) noexcept:
        if not self._woken:
            self._woken = True
            self._lock.release()

    def block(self, timeout=None):
        """Wait, ``timeout`` seconds at most, without the interpreter lock. False: the time is over."""
        return self._lock.acquire(True, -1 if timeout is None else min(max(timeout, 0.0), longest_wait))
