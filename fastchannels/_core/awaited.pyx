"""What is awaited: compiled steps that are a coroutine for all who ask, and the run of an application among them."""

from asyncio import CancelledError

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from "Python.h":
    int PyIter_Send(object iterator, object value, PyObject **result) except -1

cdef extern from *:
    """
    /* Lets ``await`` take the outcome of our awaitables as a return value instead of a StopIteration. */
    static void fc_set_send(PyObject *type, int (*step)(PyObject *, PyObject *, PyObject **)) {
        ((PyTypeObject *)type)->tp_as_async->am_send = (sendfunc)(void (*)(void))step;
    }
    """
    void fc_set_send(object type, int (*step)(object, object, PyObject **) except -1)


# One class with a table of acts, and no subclasses: those could not share its free list.
@cython.freelist(32)
cdef class Awaited:
    """Acts when it is awaited, as a coroutine does. Its maker sets what it does."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """One step, as a coroutine's."""
        cdef PyObject *result = NULL
        cdef int kind = self.acts.step(self, value, &result)
        outcome = <object>result
        Py_DECREF(outcome)
        if kind == RETURNS:
            raise StopIteration(outcome)
        return outcome

    def throw(self, kind, value=None, traceback=None):
        """Raise the exception where it waits, as a coroutine's ``throw``."""
        error = kind if value is None else value
        if isinstance(error, type):
            error = error()
        if traceback is not None:
            error = error.with_traceback(traceback)
        if self.acts.raises != NULL:
            return self.acts.raises(self, error)
        self.state = OVER
        if self.acts.leaves == NULL and self.inner is not None:
            return self.inner.throw(error)
        self.close()
        raise error

    def close(self):
        """Give it up."""
        self.state = OVER
        if self.acts.leaves != NULL:
            self.acts.leaves(self)
        elif self.inner is not None:
            self.inner.close()


cdef int awaited_send(self, value, PyObject **result) except -1:
    return (<Awaited>self).acts.step(<Awaited>self, value, result)


fc_set_send(Awaited, awaited_send)


async def as_coroutine(awaitable):
    return await awaitable


cdef object driven(awaitable):
    # PyIter_Send takes coroutines; any other awaitable is awaited in one.
    return awaitable if hasattr(awaitable, "send") else as_coroutine(awaitable)


# The coroutine of a task that runs an application: ``given`` is the application's own, ``inner`` what its first step
# waits for, when that was taken before there was a task.

cdef int run_over(Awaited run, error, Ends ends) except -1:
    run.state = OVER
    run.given = None
    owner, run.owner = run.owner, None
    ends(owner, error)
    return 0


cdef int run_step(Awaited run, value, PyObject **result, Calls calls, Ends ends) except -1:  # HOT: ws echo
    cdef int status
    if run.state == OVER:
        Py_INCREF(None)
        result[0] = <PyObject *>None
        return RETURNS
    if run.state == WAITING:
        run.state = GOING
        first, run.inner = run.inner, None
        if first is not None:
            Py_INCREF(first)
            result[0] = <PyObject *>first
            return YIELDS
    try:
        if run.state == NEW:
            run.given = calls(run.owner)
            run.state = GOING
        status = PyIter_Send(run.given, value, result)
    except BaseException as error:
        run_over(run, error, ends)
        Py_INCREF(None)
        result[0] = <PyObject *>None
        return RETURNS
    if status == RETURNS:
        run_over(run, None, ends)
    return status


cdef object run_raises(Awaited run, error, Ends ends):
    if run.state == WAITING:
        # The task was cancelled before it was given what the first step waits for: as with any task, that is cancelled
        # first, and the application learns of it by waiting.
        run.state = GOING
        first, run.inner = run.inner, None
        if first is not None and isinstance(error, CancelledError) and first.cancel():
            return first
    if run.state == NEW or run.state == OVER:
        if run.state == NEW:
            run_over(run, error, ends)
        raise error
    try:
        return run.given.throw(error)
    except StopIteration:
        run_over(run, None, ends)
        raise
    except BaseException as caught:
        run_over(run, caught, ends)
    raise StopIteration


def running(owner):
    """The coroutine of a task that runs an application for ``owner``.

    ``owner.call()`` gives what awaits the application, in the first step; ``owner.ended(error)`` is told how it ended,
    with None for well, and raises what is to go on.
    """
    cdef Awaited run = Awaited.__new__(Awaited)
    run.acts = &owned
    run.owner = owner
    return run


cdef object owner_calls(owner):
    return driven(owner.call())


cdef int owner_ends(owner, error) except -1:
    owner.ended(error)
    return 0


cdef int owned_step(Awaited run, value, PyObject **result) except -1:
    return run_step(run, value, result, owner_calls, owner_ends)


cdef object owned_raises(Awaited run, error):
    return run_raises(run, error, owner_ends)


cdef int run_leaves(Awaited run) except -1:
    if run.given is not None:
        run.given.close()
    return 0


cdef Acts owned
owned.step = owned_step
owned.raises = owned_raises
owned.leaves = run_leaves
