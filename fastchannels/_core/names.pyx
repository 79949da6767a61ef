"""Checked names of channels and groups, their hash, and the ring that maps names to shards."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Substring

from fastchannels._core.c_fc cimport (
    FC_NAME_CHANNEL, FC_NAME_GROUP, FC_NAME_LIMIT, FC_NAME_SINGLE_READER, FC_OK,
    fc_name_check, fc_name_hash, fc_name_local,
    fc_shard_build, fc_shard_find, fc_shard_point, fc_shard_points, fc_shard_ring,
)
from fastchannels.exceptions import InvalidNameError

cdef extern from "Python.h":
    bint PyUnicode_Check(object) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object) noexcept
    void *PyUnicode_DATA(object) noexcept


cdef int refuse(object name, int kind) except -1:
    """Raise the error for a bad name. Says what kind of name, its value, and the rule."""
    what = "group" if kind == FC_NAME_GROUP else "channel"
    if not isinstance(name, str):
        raise InvalidNameError(f"a {what} name is a str, not {type(name).__name__}")
    shown = repr(name) if len(name) < FC_NAME_LIMIT else f"{name[:40]!r}... ({len(name)} characters)"
    rule = "ASCII letters, digits, '-', '_' and '.'"
    if kind != FC_NAME_GROUP:
        rule += ", with at most one '!' after the first character"
    if kind == FC_NAME_SINGLE_READER:
        rule += " (or one '?' between two characters)"
    raise InvalidNameError(
        f"{shown} is not a {what} name: it takes 1 to {FC_NAME_LIMIT - 1} characters out of {rule}"
    )


# HOT: benchmarks/bench_inbox.py. The bytes of a compact ASCII str lie behind its header: nothing is encoded or copied.
cdef inline int check(object name, int kind) except -1:
    if (
        PyUnicode_Check(name) and PyUnicode_IS_COMPACT_ASCII(name)
        and fc_name_check(<const char *> PyUnicode_DATA(name), <size_t> PyUnicode_GET_LENGTH(name), kind) == FC_OK
    ):
        return 0
    # A str that is not compact ASCII may still hold ASCII only: an instance of a subclass of str.
    if type(name) is not str and isinstance(name, str) and name.isascii():
        return check_plain(str.__str__(name), name, kind)
    return refuse(name, kind)


cdef int check_plain(str plain, object name, int kind) except -1:
    if PyUnicode_IS_COMPACT_ASCII(plain):
        if fc_name_check(<const char *> PyUnicode_DATA(plain), <size_t> PyUnicode_GET_LENGTH(plain), kind) == FC_OK:
            return 0
    return refuse(name, kind)


cdef inline object plain(object name):
    """What compiled code takes and what formats alike everywhere: members of a ``StrEnum`` and safe strings do not."""
    return name if type(name) is str else str.__str__(name)


def check_channel_name(name, bint single_reader=False):
    """A legal channel name as a plain ``str``; ``single_reader`` admits one ``?`` (D-20). Raises ``InvalidNameError``."""
    check(name, FC_NAME_SINGLE_READER if single_reader else FC_NAME_CHANNEL)
    return plain(name)


def check_group_name(name):
    """A legal group name as a plain ``str``. Raises ``InvalidNameError``."""
    check(name, FC_NAME_GROUP)
    return plain(name)


def local_part(name):
    """``name`` up to and including its first ``!``, or the whole name."""
    cdef size_t length, local
    if PyUnicode_Check(name) and PyUnicode_IS_COMPACT_ASCII(name):
        length = <size_t> PyUnicode_GET_LENGTH(name)
        local = fc_name_local(<const char *> PyUnicode_DATA(name), length)
        return name if local == length else PyUnicode_Substring(name, 0, <Py_ssize_t> local)
    return name[:name.find("!") + 1] or name


def process_of(name):
    """``"<process>"`` of ``"<prefix>.<process>!<suffix>"``; ``""`` for a name that is not of that form."""
    cdef Py_ssize_t mark = name.find("!")
    if mark < 0:
        return ""
    cdef Py_ssize_t dot = name.rfind(".", 0, mark)
    return name[dot + 1:mark] if dot >= 0 else ""


cdef uint64_t hashed(object name) except? 0:
    cdef Py_ssize_t length
    cdef const char *text
    if isinstance(name, bytes):
        return fc_name_hash(<const char *> name, <size_t> len(<bytes> name))
    text = PyUnicode_AsUTF8AndSize(name, &length)
    return fc_name_hash(text, <size_t> length)


def hash_name(name):
    """64 bits that are the same in every process, release and platform. A str counts as its UTF-8 bytes."""
    return hashed(name)


cdef class ShardRing:
    """Consistent hashing of names over shards: one shard more or less among n moves about 1/n of the names.

    ``names`` identify the shards (their order does not matter to which name goes where); ``replicas`` points each.
    Raises ``ValueError`` for no shards, two of one name, or more than 2**24 points.
    """

    cdef fc_shard_point *_points
    cdef fc_shard_ring _ring
    cdef readonly tuple names

    def __cinit__(self, names, Py_ssize_t replicas=128):
        cdef uint64_t *hashes = NULL
        cdef size_t room, index
        self._points = NULL
        if isinstance(names, (str, bytes)):
            raise ValueError(f"a shard ring takes a sequence of names, not the one name {names!r}")
        self.names = tuple(names)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"two shards of one name: {self.names}")
        room = fc_shard_points(<size_t> len(self.names), <size_t> replicas) if replicas > 0 else 0
        if room == 0:
            raise ValueError(f"a shard ring of {len(self.names)} shards with {replicas} replicas each")
        self._points = <fc_shard_point *> malloc(room * sizeof(fc_shard_point))
        hashes = <uint64_t *> malloc(<size_t> len(self.names) * sizeof(uint64_t))
        try:
            if self._points == NULL or hashes == NULL:
                raise MemoryError()
            for index, name in enumerate(self.names):
                hashes[index] = hashed(name)
            # Cannot fail: the sizes were checked above.
            fc_shard_build(&self._ring, self._points, room, hashes, <size_t> len(self.names), <size_t> replicas)
        finally:
            free(hashes)

    def __dealloc__(self):
        free(self._points)

    def __len__(self):
        return len(self.names)

    def shard_for(self, name):
        """Index, in ``names``, of the shard that ``name`` belongs to."""
        return fc_shard_find(&self._ring, hashed(name))
