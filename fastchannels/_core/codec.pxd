cpdef int check_message(message) except -1


cdef class Codec:
    cdef readonly Py_ssize_t max_message_size

    cpdef bytes encode(self, message)
    cpdef dict decode(self, payload)
