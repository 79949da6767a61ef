# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Messages as MessagePack: :func:`pack` and :func:`unpack`, over ``src_c/fc_msgpack``.

``pack`` gives the bytes of ``msgpack.packb`` with its defaults and ``unpack`` the objects of ``msgpack.unpackb``, for
what a message may hold; all else is refused with the place it was found at.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastchannels._core.c_fc cimport (
    FC_MSGPACK_ARRAY,
    FC_MSGPACK_BIN,
    FC_MSGPACK_EXT,
    FC_MSGPACK_FALSE,
    FC_MSGPACK_FLOAT,
    FC_MSGPACK_INT,
    FC_MSGPACK_MAP,
    FC_MSGPACK_NIL,
    FC_MSGPACK_SLACK,
    FC_MSGPACK_STR,
    FC_MSGPACK_TRUE,
    FC_MSGPACK_UINT,
    FC_NEED_DATA,
    FC_OK,
    fc_msgpack_is_ascii,
    fc_msgpack_next,
    fc_msgpack_put_array,
    fc_msgpack_put_bin,
    fc_msgpack_put_bool,
    fc_msgpack_put_float,
    fc_msgpack_put_int,
    fc_msgpack_put_map,
    fc_msgpack_put_nil,
    fc_msgpack_put_str,
    fc_msgpack_put_uint,
    fc_msgpack_reader,
    fc_msgpack_reader_init,
    fc_msgpack_token,
    fc_status,
)

from fastchannels.exceptions import InvalidMessageError, InvalidPayloadError, MessageRangeError, MessageTooLarge

# Declared with bare pointers: the packer reports its own faults without a Python exception (see Out), so it does
# without Cython's error checks, and it decides itself which references it needs.
cdef extern from "Python.h" nogil:
    ctypedef long long long_long "long long"
    PyObject *Py_None
    PyObject *Py_True
    PyObject *Py_False
    PyObject *PyExc_UnicodeEncodeError
    PyObject *PyExc_OverflowError
    PyObject *PyExc_BufferError
    PyObject *PyExc_ValueError
    void Py_INCREF(PyObject *o)
    void Py_DECREF(PyObject *o)
    void Py_XDECREF(PyObject *o)
    void PyErr_Clear()
    int PyErr_ExceptionMatches(PyObject *kind)

    int PyUnicode_CheckExact(PyObject *o)
    int PyDict_CheckExact(PyObject *o)
    int PyLong_CheckExact(PyObject *o)
    int PyFloat_CheckExact(PyObject *o)
    int PyList_CheckExact(PyObject *o)
    int PyTuple_CheckExact(PyObject *o)
    int PyBytes_CheckExact(PyObject *o)
    int PyUnicode_Check(PyObject *o)
    int PyUnicode_IS_COMPACT_ASCII(PyObject *o)
    uint8_t *PyUnicode_1BYTE_DATA(PyObject *o)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *o)
    const char *PyUnicode_AsUTF8AndSize(PyObject *o, Py_ssize_t *size)
    PyObject *PyUnicode_New(Py_ssize_t size, Py_UCS4 highest)
    PyObject *PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)

    int PyLong_Check(PyObject *o)
    long_long PyLong_AsLongLongAndOverflow(PyObject *o, int *overflow)
    unsigned long long PyLong_AsUnsignedLongLong(PyObject *o)
    PyObject *PyLong_FromLongLong(long_long value)
    PyObject *PyLong_FromUnsignedLongLong(unsigned long long value)
    PyObject *PyLong_FromSsize_t(Py_ssize_t value)
    int PyFloat_Check(PyObject *o)
    double PyFloat_AS_DOUBLE(PyObject *o)
    PyObject *PyFloat_FromDouble(double value)

    int PyDict_Check(PyObject *o)
    Py_ssize_t PyDict_GET_SIZE "PyDict_Size"(PyObject *o)
    int PyDict_Next(PyObject *o, Py_ssize_t *pos, PyObject **key, PyObject **value)
    PyObject *PyDict_New()
    int PyDict_SetItem(PyObject *o, PyObject *key, PyObject *value)
    PyObject *PyMapping_Items(PyObject *o)
    int PyList_Check(PyObject *o)
    int PyTuple_Check(PyObject *o)
    Py_ssize_t PyList_GET_SIZE(PyObject *o)
    Py_ssize_t PyTuple_GET_SIZE(PyObject *o)
    PyObject *PyList_GET_ITEM(PyObject *o, Py_ssize_t index)
    PyObject *PyTuple_GET_ITEM(PyObject *o, Py_ssize_t index)
    PyObject *PyList_New(Py_ssize_t size)
    void PyList_SET_ITEM(PyObject *o, Py_ssize_t index, PyObject *value)
    int PyList_Append(PyObject *o, PyObject *value)
    PyObject *PySequence_List(PyObject *o)

    int PyBytes_Check(PyObject *o)
    int PyByteArray_Check(PyObject *o)
    int PyMemoryView_Check(PyObject *o)
    int get_buffer "PyObject_GetBuffer"(PyObject *o, Py_buffer *view, int flags)
    PyObject *PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)
    char *PyBytes_AS_STRING(PyObject *o)
    Py_ssize_t PyBytes_GET_SIZE(PyObject *o)
    int _PyBytes_Resize(PyObject **o, Py_ssize_t size)
    Py_hash_t PyObject_Hash(PyObject *o)

cdef enum:
    STACK = 2048  # bytes of a message that need no allocation but the result
    MAX_DEPTH = 128  # containers inside one another, in both directions
    CACHED_KEYS = 256  # a power of two, see read_key
    CACHED_KEY_SIZE = 32

cdef enum Fault:
    NO_FAULT  # a Python exception is set
    OF_TYPE
    OF_KEY
    OF_TEXT
    OF_KEY_TEXT
    OF_RANGE
    OF_DEPTH
    OF_CHANGE
    OF_LENGTH
    OF_SIZE
    OF_VIEW

# What one call of pack() writes to. A fault is noted here instead of raised: each level of the message adds its key on
# the way out, so the path costs nothing until something is wrong.
cdef struct Out:
    uint8_t *start
    uint8_t *p
    # A head may be written while p <= soft; then FC_MSGPACK_SLACK bytes are there.
    uint8_t *soft
    Py_ssize_t capacity
    # 0: no limit.
    Py_ssize_t limit
    # Owned: the bytes object that start lies in, or NULL while start is pack()'s own stack.
    PyObject *heap
    Fault fault
    # Owned: the value at fault, and the keys and indexes to it, innermost first.
    PyObject *culprit
    PyObject *path
    Py_ssize_t needed


# ---------------------------------------------------------------------------------------------------------- writing


cdef int fail(Out *out, Fault fault, PyObject *culprit) noexcept:
    out.fault = fault
    Py_INCREF(culprit)
    out.culprit = culprit
    return -1


cdef int within(Out *out, PyObject *key) noexcept:
    """Note on the error route that the fault lies under ``key``."""
    if out.fault != NO_FAULT:
        if out.path == NULL:
            out.path = PyList_New(0)
        if key == NULL or out.path == NULL or PyList_Append(out.path, key) < 0:
            out.fault = NO_FAULT  # out of memory: that exception is set
    return -1


cdef int within_index(Out *out, Py_ssize_t index) noexcept:
    cdef PyObject *key
    if out.fault != NO_FAULT:
        key = PyLong_FromSsize_t(index)
        within(out, key)
        Py_XDECREF(key)
    return -1


cdef int grow(Out *out, Py_ssize_t size, PyObject *culprit) noexcept:
    """Make room for ``size`` bytes and a head, or note that the limit is passed."""
    cdef Py_ssize_t used = out.p - out.start
    cdef Py_ssize_t capacity
    cdef PyObject *heap = out.heap
    if out.limit and used + size > out.limit:
        out.needed = used + size
        return fail(out, OF_SIZE, culprit)
    capacity = max(2 * out.capacity, used + size + FC_MSGPACK_SLACK)
    if out.limit and capacity > out.limit + FC_MSGPACK_SLACK:
        capacity = out.limit + FC_MSGPACK_SLACK
    if heap == NULL:
        heap = PyBytes_FromStringAndSize(NULL, capacity)
        if heap == NULL:
            return -1
        memcpy(PyBytes_AS_STRING(heap), out.start, used)
    elif _PyBytes_Resize(&heap, capacity) < 0:
        out.heap = NULL  # freed by the failed call
        return -1
    out.heap = heap
    out.start = <uint8_t *>PyBytes_AS_STRING(heap)
    out.p = out.start + used
    out.capacity = capacity
    set_soft(out)
    return 0


cdef inline void set_soft(Out *out) noexcept:
    cdef Py_ssize_t room = out.capacity - FC_MSGPACK_SLACK
    out.soft = out.start + (out.limit if out.limit and out.limit < room else room)


cdef inline int put_bytes(Out *out, const uint8_t *data, Py_ssize_t size, PyObject *culprit) noexcept:
    if size > out.soft - out.p and grow(out, size, culprit) < 0:
        return -1
    memcpy(out.p, data, size)
    out.p += size
    return 0


cdef inline int pack_text(Out *out, PyObject *o, Fault fault) noexcept:
    cdef const uint8_t *data
    cdef Py_ssize_t size
    cdef size_t head
    if PyUnicode_IS_COMPACT_ASCII(o):
        data = PyUnicode_1BYTE_DATA(o)
        size = PyUnicode_GET_LENGTH(o)
    else:
        data = <const uint8_t *>PyUnicode_AsUTF8AndSize(o, &size)
        if data == NULL:
            if not PyErr_ExceptionMatches(PyExc_UnicodeEncodeError):
                return -1
            PyErr_Clear()
            return fail(out, fault, o)
    if out.p > out.soft and grow(out, 0, o) < 0:
        return -1
    head = fc_msgpack_put_str(out.p, size)
    if head == 0:
        return fail(out, OF_LENGTH, o)
    out.p += head
    return put_bytes(out, data, size, o)


cdef inline int pack_bin(Out *out, const uint8_t *data, Py_ssize_t size, PyObject *o) noexcept:
    if out.p > out.soft and grow(out, 0, o) < 0:
        return -1
    cdef size_t head = fc_msgpack_put_bin(out.p, size)
    if head == 0:
        return fail(out, OF_LENGTH, o)
    out.p += head
    return put_bytes(out, data, size, o)


cdef int pack_view(Out *out, PyObject *o) noexcept:
    cdef Py_buffer view
    cdef int status
    if get_buffer(o, &view, PyBUF_SIMPLE) < 0:
        if not (PyErr_ExceptionMatches(PyExc_BufferError) or PyErr_ExceptionMatches(PyExc_ValueError)):
            return -1
        PyErr_Clear()  # not contiguous, or released
        return fail(out, OF_VIEW, o)
    status = pack_bin(out, <const uint8_t *>view.buf, view.len, o)
    PyBuffer_Release(&view)
    return status


cdef inline int pack_int(Out *out, PyObject *o) noexcept:
    cdef int overflow
    cdef long_long value = PyLong_AsLongLongAndOverflow(o, &overflow)
    cdef unsigned long long high
    if overflow == 0:
        out.p += fc_msgpack_put_int(out.p, value)
        return 0
    if overflow > 0:
        high = PyLong_AsUnsignedLongLong(o)
        if not (high == <unsigned long long>-1 and PyErr_ExceptionMatches(PyExc_OverflowError)):
            out.p += fc_msgpack_put_uint(out.p, high)
            return 0
        PyErr_Clear()
    return fail(out, OF_RANGE, o)


cdef inline int pack_pair(Out *out, PyObject *key, PyObject *value, int depth) noexcept:
    """One key and its value, both kept alive meanwhile: packing a value may run code that drops them."""
    cdef int status
    Py_INCREF(key)
    Py_INCREF(value)
    if not PyUnicode_Check(key):
        status = fail(out, OF_KEY, key)
    else:
        status = pack_text(out, key, OF_KEY_TEXT)
        if status == 0:
            status = pack_value(out, value, depth)
            if status < 0:
                within(out, key)
    Py_DECREF(key)
    Py_DECREF(value)
    return status


cdef int pack_dict(Out *out, PyObject *o, int depth) noexcept:
    cdef PyObject *key
    cdef PyObject *value
    cdef Py_ssize_t size = PyDict_GET_SIZE(o), pos = 0, done = 0
    cdef size_t head = fc_msgpack_put_map(out.p, size)
    if depth >= MAX_DEPTH:
        return fail(out, OF_DEPTH, o)
    if head == 0:
        return fail(out, OF_LENGTH, o)
    out.p += head
    while PyDict_Next(o, &pos, &key, &value):
        if pack_pair(out, key, value, depth + 1) < 0:
            return -1
        done += 1
        # PyDict_Next is safe on a dict that changed, but the head already promised `size` pairs.
        if PyDict_GET_SIZE(o) != size or done > size:
            return fail(out, OF_CHANGE, o)
    return 0 if done == size else fail(out, OF_CHANGE, o)


cdef int pack_mapping(Out *out, PyObject *o, int depth) noexcept:
    """A subclass of dict, by its own ``items()``: a Django ``QueryDict`` keeps lists and shows their last values."""
    cdef PyObject *items
    cdef PyObject *item
    cdef Py_ssize_t index = 0, size
    cdef size_t head
    cdef int status = 0
    if depth >= MAX_DEPTH:
        return fail(out, OF_DEPTH, o)
    items = PyMapping_Items(o)
    if items == NULL:
        return -1
    size = PyList_GET_SIZE(items)
    head = fc_msgpack_put_map(out.p, size)
    if head == 0:
        status = fail(out, OF_LENGTH, o)
    out.p += head
    while status == 0 and index < PyList_GET_SIZE(items):
        item = PyList_GET_ITEM(items, index)
        if PyTuple_Check(item) and PyTuple_GET_SIZE(item) == 2:
            status = pack_pair(out, PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1), depth + 1)
        else:
            status = fail(out, OF_TYPE, o)
        index += 1
    Py_DECREF(items)
    return status


cdef int pack_list(Out *out, PyObject *o, int depth) noexcept:
    cdef Py_ssize_t size = PyList_GET_SIZE(o), index
    cdef size_t head = fc_msgpack_put_array(out.p, size)
    cdef PyObject *item
    cdef int status
    if depth >= MAX_DEPTH:
        return fail(out, OF_DEPTH, o)
    if head == 0:
        return fail(out, OF_LENGTH, o)
    out.p += head
    for index in range(size):
        item = PyList_GET_ITEM(o, index)
        Py_INCREF(item)  # packing it may run code that takes it out of the list
        status = pack_value(out, item, depth + 1)
        Py_DECREF(item)
        if status < 0:
            return within_index(out, index)
        if PyList_GET_SIZE(o) != size:
            return fail(out, OF_CHANGE, o)
    return 0


cdef int pack_tuple(Out *out, PyObject *o, int depth) noexcept:
    cdef Py_ssize_t size = PyTuple_GET_SIZE(o), index
    cdef size_t head = fc_msgpack_put_array(out.p, size)
    if depth >= MAX_DEPTH:
        return fail(out, OF_DEPTH, o)
    if head == 0:
        return fail(out, OF_LENGTH, o)
    out.p += head
    for index in range(size):
        if pack_value(out, PyTuple_GET_ITEM(o, index), depth + 1) < 0:
            return within_index(out, index)
    return 0


cdef int pack_iterable(Out *out, PyObject *o, int depth) noexcept:
    """A subclass of list or tuple, by its own ``__iter__``."""
    cdef PyObject *items
    cdef int status
    if depth >= MAX_DEPTH:
        return fail(out, OF_DEPTH, o)
    items = PySequence_List(o)
    if items == NULL:
        return -1
    status = pack_list(out, items, depth)
    Py_DECREF(items)
    return status


# HOT: benchmarks/bench_msgpack.py
cdef int pack_value(Out *out, PyObject *o, int depth) noexcept:
    """Write ``o``. -1: ``out.fault`` says why, or a Python exception is set.

    Exact types first, the commonest before the others; then subclasses.
    """
    if PyUnicode_CheckExact(o):
        return pack_text(out, o, OF_TEXT)
    # Room for the head of whatever it is.
    if out.p > out.soft and grow(out, 0, o) < 0:
        return -1
    if PyDict_CheckExact(o):
        return pack_dict(out, o, depth)
    if PyLong_CheckExact(o):
        return pack_int(out, o)
    if PyList_CheckExact(o):
        return pack_list(out, o, depth)
    if o == Py_None:
        out.p += fc_msgpack_put_nil(out.p)
        return 0
    if o == Py_True or o == Py_False:
        out.p += fc_msgpack_put_bool(out.p, o == Py_True)
        return 0
    if PyFloat_CheckExact(o):
        out.p += fc_msgpack_put_float(out.p, PyFloat_AS_DOUBLE(o))
        return 0
    if PyBytes_CheckExact(o):
        return pack_bin(out, <const uint8_t *>PyBytes_AS_STRING(o), PyBytes_GET_SIZE(o), o)
    if PyTuple_CheckExact(o):
        return pack_tuple(out, o, depth)
    if PyUnicode_Check(o):
        return pack_text(out, o, OF_TEXT)
    if PyLong_Check(o):
        return pack_int(out, o)
    if PyDict_Check(o):
        return pack_mapping(out, o, depth)
    if PyList_Check(o) or PyTuple_Check(o):
        return pack_iterable(out, o, depth)
    if PyFloat_Check(o):
        out.p += fc_msgpack_put_float(out.p, PyFloat_AS_DOUBLE(o))
        return 0
    if PyBytes_Check(o):
        return pack_bin(out, <const uint8_t *>PyBytes_AS_STRING(o), PyBytes_GET_SIZE(o), o)
    if PyByteArray_Check(o) or PyMemoryView_Check(o):
        return pack_view(out, o)
    return fail(out, OF_TYPE, o)


def pack(obj, Py_ssize_t max_size=0):
    """``obj`` as MessagePack, ``max_size`` bytes at most (0: no limit).

    Byte for byte what ``msgpack.packb`` gives: tuples become arrays, floats take 64 bits, bytes, ``bytearray`` and
    ``memoryview`` become bin, subclasses count as what they derive from.

    Raises ``InvalidMessageError``, ``MessageRangeError`` (an integer outside -2**63 to 2**64-1) or
    ``MessageTooLarge``, with the path of the value at fault; what a subclass raises in ``items`` or ``__iter__``
    passes through.
    """
    cdef uint8_t stack[STACK]
    cdef Out out
    cdef Py_ssize_t size
    cdef PyObject *result
    if max_size < 0:
        raise ValueError(f"max_size is {max_size}: 0 means no limit")
    out.start = out.p = stack
    out.capacity = STACK
    out.limit = max_size
    out.heap = out.culprit = out.path = NULL
    out.fault = NO_FAULT
    set_soft(&out)
    if pack_value(&out, <PyObject *>obj, 0) < 0:
        return finish_fault(&out)
    size = out.p - out.start
    if max_size and size > max_size:
        out.needed = size
        fail(&out, OF_SIZE, <PyObject *>obj)
        return finish_fault(&out)
    if out.heap == NULL:
        result = PyBytes_FromStringAndSize(<char *>stack, size)
        if result == NULL:
            raise MemoryError
    else:
        result = out.heap
        if _PyBytes_Resize(&result, size) < 0:
            raise MemoryError
    packed = <object>result
    Py_DECREF(result)  # `packed` holds it
    return packed


cdef object finish_fault(Out *out):
    """Release what ``out`` owns and raise its fault."""
    cdef Fault fault = out.fault
    culprit = <object>out.culprit if out.culprit != NULL else None
    path = <object>out.path if out.path != NULL else []
    Py_XDECREF(out.culprit)
    Py_XDECREF(out.path)
    Py_XDECREF(out.heap)
    if fault == NO_FAULT:
        reraise()
    place = "message" + path_text(path)
    if fault == OF_SIZE:
        raise MessageTooLarge(
            f"{place}: up to here the encoded message takes {out.needed} bytes, more than the limit of {out.limit}"
        )
    if fault == OF_RANGE:
        bits = int.bit_length(culprit)
        shown = int.__repr__(culprit) if bits <= 128 else f"an integer of {bits} bits"
        raise MessageRangeError(f"{place}: {shown} cannot be carried (integers go from -2**63 to 2**64-1)")
    raise InvalidMessageError(f"{place}: {reason(fault, culprit)}")


cdef int reraise() except -1:
    """Let the Python exception that is set go on."""
    return -1


cdef str reason(Fault fault, culprit):
    if fault == OF_KEY:
        return f"the key {short(repr(culprit))} is of type {type_name(culprit)}, keys must be str"
    if fault == OF_TEXT:
        return f"{short(ascii(culprit))} holds half a surrogate pair, which UTF-8 cannot express"
    if fault == OF_KEY_TEXT:
        return f"the key {short(ascii(culprit))} holds half a surrogate pair, which UTF-8 cannot express"
    if fault == OF_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    if fault == OF_CHANGE:
        return f"the {type_name(culprit)} changed while it was being encoded"
    if fault == OF_LENGTH:
        return f"the {type_name(culprit)} is longer than 2**32-1"
    if fault == OF_VIEW:
        return "the memoryview is released or not contiguous"
    return (
        f"{type_name(culprit)} cannot be carried "
        "(a message holds None, bool, int, float, str, bytes, list, tuple and dict with str keys)"
    )


cdef str type_name(o):
    kind = type(o)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


cdef str short(str text):
    return text if len(text) <= 80 else f"{text[:60]}...{text[len(text) - 10:]}"


cdef str path_text(list path):
    """The subscripts of a path that was noted innermost first; of a long one, the first six and the last two."""
    parts = [f"[{step}]" if type(step) is int else f"[{short(str.__repr__(step))}]" for step in reversed(path)]
    if len(parts) > 12:
        parts[6:len(parts) - 2] = ["[...]"]
    return "".join(parts)


# ---------------------------------------------------------------------------------------------------------- reading

# Owned: keys seen lately, by a hash of their bytes. Most messages of a process share a few keys, and a str that is kept
# keeps its hash too. Bounded, and not interned: the keys may come from a peer.
cdef PyObject *CACHE[CACHED_KEYS]


cdef inline PyObject *read_text(const uint8_t *data, Py_ssize_t size) except NULL:
    cdef PyObject *text
    # PyUnicode_DecodeUTF8 shares the empty str and those of one character.
    if size > 1 and fc_msgpack_is_ascii(data, size):
        text = PyUnicode_New(size, 127)
        if text == NULL:
            reraise()
        memcpy(PyUnicode_1BYTE_DATA(text), data, size)
        return text
    text = PyUnicode_DecodeUTF8(<const char *>data, size, NULL)
    if text == NULL:
        reraise()
    return text


cdef inline PyObject *read_key(const uint8_t *data, Py_ssize_t size) except NULL:
    cdef uint64_t head = 0, tail = 0, index
    cdef PyObject *key
    if size < 2 or size > CACHED_KEY_SIZE:
        return read_text(data, size)
    if size >= 8:
        memcpy(&head, data, 8)
        memcpy(&tail, data + size - 8, 8)
    elif size >= 4:
        memcpy(&head, data, 4)
        memcpy(&tail, data + size - 4, 4)
    else:
        memcpy(&head, data, 2)
        memcpy(&tail, data + size - 2, 2)
    index = ((head ^ (tail << 29 | tail >> 35) ^ <uint64_t>size) * <uint64_t>0x9E3779B97F4A7C15ULL) >> 56
    key = CACHE[index]
    if key != NULL and PyUnicode_GET_LENGTH(key) == size and memcmp(PyUnicode_1BYTE_DATA(key), data, size) == 0:
        Py_INCREF(key)
        return key
    key = read_text(data, size)
    if PyUnicode_IS_COMPACT_ASCII(key):
        PyObject_Hash(key)
        Py_XDECREF(CACHE[index])
        Py_INCREF(key)
        CACHE[index] = key
    return key


cdef int refuse(fc_msgpack_reader *reader, fc_status status) except -1:
    if status == FC_NEED_DATA:
        raise InvalidPayloadError(f"byte {reader.pos}: the data end inside a value")
    if reader.data[reader.pos] == 0xC1:
        raise InvalidPayloadError(f"byte {reader.pos}: 0xc1 is no MessagePack token")
    raise InvalidPayloadError(f"byte {reader.pos}: a container announces more values than bytes follow")


cdef int refuse_text(fc_msgpack_token *token, fc_msgpack_reader *reader, error) except -1:
    raise InvalidPayloadError(f"byte {reader.pos - token.size}: text that is not UTF-8 ({error.reason})") from None


cdef PyObject *read_map(fc_msgpack_reader *reader, uint64_t pairs, int depth) except NULL:
    cdef fc_msgpack_token token
    cdef fc_status status
    cdef PyObject *result
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    if depth >= MAX_DEPTH:
        raise InvalidPayloadError(f"byte {reader.pos}: nested deeper than {MAX_DEPTH} levels")
    result = PyDict_New()
    if result == NULL:
        reraise()
    try:
        while pairs:
            pairs -= 1
            status = fc_msgpack_next(reader, &token)
            if status != FC_OK:
                refuse(reader, status)
            if token.kind == FC_MSGPACK_STR:
                try:
                    key = read_key(token.data, token.size)
                except UnicodeDecodeError as error:
                    refuse_text(&token, reader, error)
            elif token.kind == FC_MSGPACK_BIN:
                key = PyBytes_FromStringAndSize(<const char *>token.data, token.size)
                if key == NULL:
                    reraise()
            else:
                raise InvalidPayloadError(f"byte {reader.pos}: a key that is neither str nor bytes")
            value = read_value(reader, depth + 1)
            if PyDict_SetItem(result, key, value) < 0:
                reraise()
            Py_DECREF(key)
            key = NULL
            Py_DECREF(value)
            value = NULL
    except:
        Py_XDECREF(key)
        Py_XDECREF(value)
        Py_DECREF(result)
        raise
    return result


cdef PyObject *read_array(fc_msgpack_reader *reader, uint64_t size, int depth) except NULL:
    cdef uint64_t index
    cdef PyObject *result
    if depth >= MAX_DEPTH:
        raise InvalidPayloadError(f"byte {reader.pos}: nested deeper than {MAX_DEPTH} levels")
    # The reader has checked that a byte remains for each slot.
    result = PyList_New(size)
    if result == NULL:
        reraise()
    try:
        for index in range(size):
            PyList_SET_ITEM(result, index, read_value(reader, depth + 1))
    except:
        Py_DECREF(result)
        raise
    return result


# HOT: benchmarks/bench_msgpack.py
cdef PyObject *read_value(fc_msgpack_reader *reader, int depth) except NULL:
    """The next value, as a new reference."""
    cdef fc_msgpack_token token
    cdef fc_status status = fc_msgpack_next(reader, &token)
    cdef PyObject *result
    if status != FC_OK:
        refuse(reader, status)
    if token.kind == FC_MSGPACK_STR:
        try:
            return read_text(token.data, token.size)
        except UnicodeDecodeError as error:
            refuse_text(&token, reader, error)
    if token.kind == FC_MSGPACK_MAP:
        return read_map(reader, token.size, depth)
    if token.kind == FC_MSGPACK_ARRAY:
        return read_array(reader, token.size, depth)
    if token.kind == FC_MSGPACK_UINT:
        result = PyLong_FromUnsignedLongLong(token.u)
    elif token.kind == FC_MSGPACK_INT:
        result = PyLong_FromLongLong(token.i)
    elif token.kind == FC_MSGPACK_FLOAT:
        result = PyFloat_FromDouble(token.f)
    elif token.kind == FC_MSGPACK_BIN:
        result = PyBytes_FromStringAndSize(<const char *>token.data, token.size)
    elif token.kind == FC_MSGPACK_EXT:
        raise InvalidPayloadError(
            f"byte {reader.pos - token.size}: an extension value (type {token.ext_type}), which no message holds"
        )
    else:
        result = Py_None if token.kind == FC_MSGPACK_NIL else Py_True if token.kind == FC_MSGPACK_TRUE else Py_False
        Py_INCREF(result)
    if result == NULL:
        reraise()
    return result


def unpack(data):
    """The object that ``data`` (bytes, or another contiguous buffer) holds, as ``msgpack.unpackb`` gives it.

    Raises ``InvalidPayloadError``, with the offset, unless ``data`` is exactly one value of the types that
    :func:`pack` writes, with keys of str or bytes.
    """
    cdef fc_msgpack_reader reader
    cdef Py_buffer view
    cdef PyObject *result
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        fc_msgpack_reader_init(&reader, view.buf, view.len)
        result = read_value(&reader, 0)
        value = <object>result
        Py_DECREF(result)  # `value` holds it
        if reader.pos != reader.size:
            raise InvalidPayloadError(f"byte {reader.pos}: {reader.size - reader.pos} bytes follow the value")
        return value
    finally:
        PyBuffer_Release(&view)
