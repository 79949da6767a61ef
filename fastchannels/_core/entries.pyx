"""The entries of an inbox in a store, as bytes (layers/redis/wire.py), and what hands them to an Inbox."""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.string cimport memcmp, memcpy

from fastchannels._core.inbox cimport Inbox
from fastchannels._core.wake cimport running_loop

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef object logger = logging.getLogger("fastchannels.layer")

cdef enum:
    STAMP = 6
    HEAD = 8
    COUNT = STAMP
    SIZE = 4


def body(int kind, str name not None, bytes rest not None=b""):
    """An inbox entry without its stamp: the kind, the length of the name, the name, the rest."""
    cdef Py_ssize_t length
    cdef const char *text = PyUnicode_AsUTF8AndSize(name, &length)
    cdef bytes made
    cdef char *at
    if length > 255 or length != len(name):
        raise ValueError(f"{name[:40]!r}: the name of an inbox entry is ASCII and shorter than 256")
    made = PyBytes_FromStringAndSize(NULL, 2 + length + PyBytes_GET_SIZE(rest))
    at = PyBytes_AS_STRING(made)
    at[0] = <char> kind
    at[1] = <char> length
    memcpy(at + 2, text, <size_t> length)
    memcpy(at + 2 + length, PyBytes_AS_STRING(rest), <size_t> PyBytes_GET_SIZE(rest))
    return made


cdef Py_ssize_t name_end(bytes entry) except -1:
    """Where the name of ``entry`` ends and its rest begins; ``ValueError`` when it is too short, or None."""
    cdef Py_ssize_t size, end
    if entry is None:
        raise ValueError("inbox entry: None")
    size = PyBytes_GET_SIZE(entry)
    if size < HEAD:
        raise ValueError(f"inbox entry of {size} bytes: the head alone takes {HEAD}")
    end = HEAD + <unsigned char> PyBytes_AS_STRING(entry)[STAMP + 1]
    if size < end:
        raise ValueError(f"inbox entry of {size} bytes: its name ends at {end}")
    return end


cdef long long number_of(const char *at) noexcept:
    """A stamp, or a count: both take as many bytes."""
    cdef long long number = 0
    for index in range(STAMP):
        number = number << 8 | <unsigned char> at[index]
    return number


def parse(bytes entry not None):
    """``(stamp, kind, name, rest)`` of an inbox entry; ``ValueError`` when it cannot be one."""
    cdef Py_ssize_t end = name_end(entry)
    cdef char *at = PyBytes_AS_STRING(entry)
    name = PyUnicode_DecodeASCII(at + HEAD, end - HEAD, NULL)
    return number_of(at), <unsigned char> at[STAMP], name, PyBytes_FromStringAndSize(at + end, PyBytes_GET_SIZE(entry) - end)


def sized(bytes made not None):
    """``made`` as it stands among the messages of a batch: behind its size."""
    return PyBytes_GET_SIZE(made).to_bytes(SIZE, "big") + made


cdef class Intake:
    """What comes out of the inbox of a process at one shard, in order, on its way to an ``Inbox``.

    Messages go on their channels, and ``other(kind, name, rest, age)`` is called for the rest; ages are seconds. A
    message of this process's own (kind ``o``) is counted down in ``flying``.

    A batch tells how many messages were put in before it, and a note of the kind ``t`` how many so far:
    ``missed(count)`` is called when some of them have not come. When more have come, the store began to count anew.
    """
    cdef Inbox inbox
    cdef dict flying
    cdef object other, missed, loop
    # Messages that have come, by the count of the store.
    cdef long long seen
    # The name met last. Messages of one channel come in runs, and share a name whose hash is known.
    cdef object name
    cdef const char *text
    cdef Py_ssize_t length
    cdef bytes holder
    cdef double clock

    def __init__(self, Inbox inbox not None, dict flying not None, other, missed):
        self.inbox, self.flying, self.other, self.missed = inbox, flying, other, missed

    cdef int hand(self, bytes holder, const char *at, Py_ssize_t size, double age) except -1:
        """Hand on the ``size`` bytes at ``at``, in ``holder``: a body."""
        cdef Py_ssize_t length, end
        cdef unsigned char kind
        if size < 2 or size < 2 + <unsigned char> at[1]:
            raise ValueError(f"inbox entry with a body of {size} bytes: too short for its name")
        kind = <unsigned char> at[0]
        length = <unsigned char> at[1]
        end = 2 + length
        if length != self.length or memcmp(at + 2, self.text, <size_t> length) != 0:
            self.length = -1
            self.name = PyUnicode_DecodeASCII(at + 2, length, NULL)
            self.text, self.length, self.holder = at + 2, length, holder
        rest = PyBytes_FromStringAndSize(at + end, size - end)
        if kind == c"m" or kind == c"o":
            if kind == c"o":
                landed(self.flying, self.name)
            self.inbox._put(self.name, rest, age, self.loop, False, self.clock)
        else:
            self.other(kind, self.name, rest, age)
        return 0

    cdef int comes_to(self, long long count) except -1:
        """``count`` messages were put in so far, and nothing of them is still to come."""
        cdef long long missing = count - self.seen
        self.seen = count
        if missing > 0:
            self.missed(missing)
        return 0

    def hand_on(self, list entries not None, long long now):
        """Hand on what one pop gave; ``now`` is the store's clock in milliseconds.

        An entry, or a message of a batch, that cannot be handled is logged and stops no other.
        """
        cdef bytes entry
        cdef const char *at
        cdef const char *end
        cdef Py_ssize_t size
        cdef double age
        self.loop = running_loop()
        self.length = -1
        self.clock = self.inbox._clock()
        # HOT: benchmarks/layers.py, one way and 1,000 channels
        for item in entries:
            try:
                entry = item
                name_end(entry)
                at = PyBytes_AS_STRING(entry)
                end = at + PyBytes_GET_SIZE(entry)
                age = <double> (now - number_of(at)) / 1000
                if at[STAMP] == c"t":
                    self.comes_to(int(entry[HEAD:]))
                    continue
                if at[STAMP] != c"b":
                    self.hand(entry, at + STAMP, PyBytes_GET_SIZE(entry) - STAMP, age)
                    continue
                at += HEAD + COUNT
                if at > end:
                    raise ValueError(
                        f"inbox entry of {PyBytes_GET_SIZE(entry)} bytes: the head of a batch takes {HEAD + COUNT}"
                    )
                self.comes_to(number_of(at - COUNT))
                while at < end:
                    if end - at < SIZE:
                        raise ValueError(f"inbox entry: {end - at} bytes follow the messages of a batch")
                    size = size_of(at)
                    at += SIZE
                    if size > end - at:
                        raise ValueError(f"inbox entry: a message of {size} bytes, and {end - at} are there")
                    self.seen += 1
                    try:
                        self.hand(entry, at, size, age)
                    except Exception:
                        logger.exception("a message to this process could not be handled")
                    at += size
            except Exception:
                logger.exception("an entry of the inbox of this process could not be handled")


cdef Py_ssize_t size_of(const char *at) noexcept:
    cdef Py_ssize_t size = 0
    for index in range(SIZE):
        size = size << 8 | <unsigned char> at[index]
    return size


cdef int landed(dict flying, object name) except -1:
    count = flying.get(name, 0)
    if count > 1:
        flying[name] = count - 1
    elif count:
        del flying[name]
    return 0
