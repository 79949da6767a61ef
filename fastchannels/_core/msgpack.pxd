cpdef bytes pack(obj, Py_ssize_t max_size=*)
cdef object unpacked(bytes data)
