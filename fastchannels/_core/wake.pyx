"""What a coroutine or a thread waits on until it is woken.

A :class:`Waiter` stands in for ``asyncio.Future`` where thousands are woken at a time: the callbacks of all that are
settled in one turn of a loop run in one callback of that loop, in the order in which they were settled.
"""

import contextvars
import threading
from asyncio import CancelledError, InvalidStateError

from cpython.ref cimport PyObject

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef object copy_context = contextvars.copy_context
cdef object new_lock = threading.Lock
cdef double longest_wait = threading.TIMEOUT_MAX

# The turn that collects waiters until its loop calls it; another thread's loop begins one of its own.
cdef Turn collecting = None


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


cdef class Waiter:
    """Awaitable on ``loop``, with the methods of a future that tasks and ``asyncio.wait_for`` use.

    Guarantees what a future does: callbacks run in their contexts, from the loop and never inside the call that settles
    the waiter; cancelling the task that waits cancels it. Settled once; on the thread of its loop.
    """

    def __cinit__(self, loop, *_arguments):
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


def settle_all(list waiters not None, bytes codes not None):
    """Give each waiter that is not done yet its byte of ``codes``."""
    cdef Py_ssize_t index
    cdef Waiter waiter
    if len(waiters) != len(codes):
        raise ValueError(f"{len(codes)} answers for {len(waiters)} waiters")
    for index in range(len(waiters)):
        waiter = waiters[index]
        if waiter.state == PENDING:
            waiter.settle(DONE, <unsigned char> codes[index])


def any_cancelled(list waiters not None):
    """Whether any of ``waiters`` was cancelled."""
    cdef Waiter waiter
    for waiter in waiters:
        if waiter.state == CANCELLED:
            return True
    return False


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
