cdef class Members:
    """``joined`` maps each member to the time of its last add; ``frozen`` is a snapshot of it, made when asked for."""
    cdef dict joined
    cdef tuple frozen
    cdef Py_ssize_t changes  # how often the set of members changed
    cdef double oldest       # no member joined before this


cdef class LocalGroups:
    cdef object _clock
    cdef dict _groups, _of_channel

    cpdef bint add(self, object group, object channel) except -1
    cpdef bint discard(self, object group, object channel) except -1
    cdef bint _remove(self, object group, Members entry, object channel) except -1
