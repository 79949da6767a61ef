"""The entries of an inbox in a store, as bytes (layers/redis/wire.py), and the loop that hands them to an Inbox."""

import asyncio
import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.string cimport memcmp, memcpy

from fastchannels._core.inbox cimport Inbox

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef object logger = logging.getLogger("fastchannels.layer")
cdef object running_loop = asyncio._get_running_loop

cdef enum:
    STAMP = 6
    HEAD = 8


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
    """Where the name of ``entry`` ends and its rest begins; ``ValueError`` when it is too short."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(entry), end
    if size < HEAD:
        raise ValueError(f"inbox entry of {size} bytes: the head alone takes {HEAD}")
    end = HEAD + <unsigned char> PyBytes_AS_STRING(entry)[STAMP + 1]
    if size < end:
        raise ValueError(f"inbox entry of {size} bytes: its name ends at {end}")
    return end


cdef long long stamp_of(const char *at) noexcept:
    cdef long long stamp = 0
    for index in range(STAMP):
        stamp = stamp << 8 | <unsigned char> at[index]
    return stamp


def parse(bytes entry not None):
    """``(stamp, kind, name, rest)`` of an inbox entry; ``ValueError`` when it cannot be one."""
    cdef Py_ssize_t end = name_end(entry)
    cdef char *at = PyBytes_AS_STRING(entry)
    name = PyUnicode_DecodeASCII(at + HEAD, end - HEAD, NULL)
    return stamp_of(at), <unsigned char> at[STAMP], name, PyBytes_FromStringAndSize(at + end, PyBytes_GET_SIZE(entry) - end)


def hand_on(Inbox inbox not None, list entries not None, long long now, dict flying not None, other):
    """Put the messages among ``entries`` on their channels and call ``other(kind, name, rest, age)`` for the rest.

    ``now`` is the store's clock in milliseconds, ages are seconds. A message of this process's own (kind ``o``) is
    counted down in ``flying``. An entry that cannot be handled is logged and stops no other.
    """
    cdef bytes entry, last = b""
    cdef Py_ssize_t end, last_end = 0
    cdef char *at
    cdef unsigned char kind
    cdef double age
    cdef object name = ""
    loop = running_loop()
    # HOT: benchmarks/layers.py, one way and 1,000 channels
    for item in entries:
        try:
            entry = item
            end = name_end(entry)
            at = PyBytes_AS_STRING(entry)
            kind = <unsigned char> at[STAMP]
            # Messages of one channel come in runs, and share one name whose hash is known.
            if end != last_end or memcmp(at + HEAD, PyBytes_AS_STRING(last) + HEAD, <size_t> (end - HEAD)) != 0:
                name = PyUnicode_DecodeASCII(at + HEAD, end - HEAD, NULL)
                last, last_end = entry, end
            age = <double> (now - stamp_of(at)) / 1000
            rest = PyBytes_FromStringAndSize(at + end, PyBytes_GET_SIZE(entry) - end)
            if kind == c"m" or kind == c"o":
                if kind == c"o":
                    landed(flying, name)
                inbox._put(name, rest, age, loop, False)
            else:
                other(kind, name, rest, age)
        except Exception:
            logger.exception("an entry of the inbox of this process could not be handled")


cdef int landed(dict flying, object name) except -1:
    count = flying.get(name, 0)
    if count > 1:
        flying[name] = count - 1
    elif count:
        del flying[name]
    return 0
