"""A receive: waiting for a name of an Inbox and taking its next message, as one awaitable."""

from fastchannels._core.inbox cimport Inbox
from fastchannels._core.wake cimport FAILED, PENDING, Waiter


cdef class Take(Waiter):
    """``await Take(loop, inbox, channel)`` gives the next message of ``channel`` on the running ``loop``.

    To be awaited in a coroutine, at once and once; for a task or ``wait_for`` it takes that coroutine. The waiter is a
    wake-up only: the message leaves its queue in the step in which the task goes on, so a task that is cancelled leaves
    it there and passes the wake-up on.
    """
    cdef Inbox _inbox
    cdef object _channel
    cdef bint _registered

    def __init__(self, loop, Inbox inbox not None, channel):
        self._loop = loop
        self._inbox = inbox
        self._channel = channel

    def __next__(self):
        cdef Inbox inbox = self._inbox
        if self.state >= FAILED:
            self.leave()
            self.result()
        if self.state == PENDING and self._registered:
            self._asyncio_future_blocking = True
            return self
        while True:
            message = inbox.take(self._channel)
            if message is not None:
                self.leave()
                raise StopIteration(message)
            self.leave()
            self.state = PENDING
            self._registered = True
            inbox._register(self._channel, self)
            if self.state == PENDING:
                self._asyncio_future_blocking = True
                return self

    cdef int leave(self) except -1:
        if self._registered:
            self._registered = False
            self._inbox.unwait(self._channel, self)
        return 0

    def throw(self, kind, value=None, traceback=None):
        self.leave()
        error = value if value is not None else kind() if isinstance(kind, type) else kind
        raise error if traceback is None else error.with_traceback(traceback)

    def close(self):
        self.leave()
