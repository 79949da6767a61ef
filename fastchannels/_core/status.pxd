# fc_status -> exception, once. Modules whose errors say more (a path, a close code) build them from their own state.
from libc.errno cimport errno

from fastchannels._core.c_fc cimport (
    FC_ERR_CLOSED,
    FC_ERR_DEPTH,
    FC_ERR_FORMAT,
    FC_ERR_FULL,
    FC_ERR_NOMEM,
    FC_ERR_OS,
    FC_ERR_RANGE,
    FC_ERR_UTF8,
    FC_ERR_VERSION,
    fc_status,
)


cdef inline int check_status(fc_status status, str what) except -1:
    """Return FC_OK or FC_NEED_DATA as it is; raise what stands for an error, with `what` as its text.

    Raises MemoryError, MessageRangeError, InvalidMessageError (format, UTF-8, depth), ChannelFull, BrokenPipeError
    (the other side is gone), OSError (from errno), CorruptSegmentError, and InternalError for a status nobody knows.
    """
    if status >= 0:
        return status
    return raise_status(status, what)


cdef inline int raise_status(fc_status status, str what) except -1:
    # Imports and look-ups stay in here: only an error comes this way.
    cdef int number = errno
    import os

    from fastchannels import exceptions

    if status == FC_ERR_NOMEM:
        raise MemoryError(what)
    if status == FC_ERR_RANGE:
        raise exceptions.MessageRangeError(what)
    if status == FC_ERR_FORMAT or status == FC_ERR_UTF8 or status == FC_ERR_DEPTH:
        raise exceptions.InvalidMessageError(what)
    if status == FC_ERR_FULL:
        raise exceptions.ChannelFull(what)
    if status == FC_ERR_CLOSED:
        raise BrokenPipeError(what)
    if status == FC_ERR_OS:
        raise OSError(number, f"{what}: {os.strerror(number)}")
    if status == FC_ERR_VERSION:
        raise exceptions.CorruptSegmentError(what)
    raise exceptions.InternalError(f"{what}: unknown status {<int>status}")
