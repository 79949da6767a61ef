from cpython.object cimport PyObject

cdef enum:
    # What a step ends in, as PyIter_Send's result.
    RETURNS = 0
    YIELDS = 1

cdef enum:
    # States of the run of an application.
    NEW = 0
    STEPPING  # its first step
    WAITING   # for what its first step ended in, which the task has not been given yet
    GOING
    OVER


cdef class Awaited


cdef struct Acts:
    # One step: the outcome, or what is waited for, goes into ``result``.
    int (*step)(Awaited self, object value, PyObject **result) except -1
    # An exception comes where it waits. NULL: it goes into ``inner``.
    object (*raises)(Awaited self, object error)
    # It is given up. NULL: ``inner`` is told.
    int (*leaves)(Awaited self) except -1


cdef class Awaited:
    cdef const Acts *acts
    # Whose it is; what it was given to do; what it waits for, or None.
    cdef object owner, given, inner
    cdef int state


# What serves an application: makes its awaitable, and is told how it ended (None: well) to raise what is to go on.
ctypedef object (*Calls)(object owner)
ctypedef int (*Ends)(object owner, object error) except -1

cdef object driven(awaitable)
cdef int run_step(Awaited run, object value, PyObject **result, Calls calls, Ends ends) except -1
cdef object run_raises(Awaited run, object error, Ends ends)
cdef int run_leaves(Awaited run) except -1
