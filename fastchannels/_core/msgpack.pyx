# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Messages as MessagePack: :func:`pack` and :func:`unpack`, over ``src_c/fc_msgpack``.

``pack`` gives the bytes of ``msgpack.packb`` with its defaults and ``unpack`` the objects of ``msgpack.unpackb``, for
what a message may hold; all else is refused with the place it was found at.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastchannels._core.c_fc cimport (
    FC_MSGPACK_ARRAY, FC_MSGPACK_BIN, FC_MSGPACK_EXT, FC_MSGPACK_FLOAT, FC_MSGPACK_INT, FC_MSGPACK_MAP,
    FC_MSGPACK_NIL, FC_MSGPACK_SLACK, FC_MSGPACK_STR, FC_MSGPACK_TRUE, FC_MSGPACK_UINT, FC_NEED_DATA, FC_OK,
    fc_msgpack_is_ascii, fc_msgpack_next, fc_msgpack_put_array, fc_msgpack_put_bin, fc_msgpack_put_bool,
    fc_msgpack_put_float, fc_msgpack_put_int, fc_msgpack_put_map, fc_msgpack_put_nil, fc_msgpack_put_str,
    fc_msgpack_put_uint, fc_msgpack_reader, fc_msgpack_reader_init, fc_msgpack_token, fc_status,
)
from fastchannels._core.c_python cimport (
    PyByteArray_Check, PyBytes_AS_STRING, PyBytes_Check, PyBytes_CheckExact, PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE, PyDict_Check, PyDict_CheckExact, PyDict_GET_SIZE, PyDict_New, PyDict_Next, PyDict_SetItem,
    PyErr_Clear, PyErr_ExceptionMatches, PyExc_BufferError, PyExc_OverflowError, PyExc_UnicodeDecodeError,
    PyExc_UnicodeEncodeError, PyExc_ValueError, PyFloat_AS_DOUBLE, PyFloat_Check, PyFloat_CheckExact,
    PyFloat_FromDouble, PyList_Append, PyList_Check, PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE, PyList_New,
    PyList_SET_ITEM, PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong, PyLong_Check, PyLong_CheckExact,
    PyLong_FromLongLong, PyLong_FromSsize_t, PyLong_FromUnsignedLongLong, PyMapping_Items, PyMemoryView_Check,
    PyObject_Hash, PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE, PySequence_List, PyTuple_Check,
    PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyUnicode_1BYTE_DATA, PyUnicode_AsUTF8AndSize,
    PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII,
    PyUnicode_New, Py_DECREF, Py_False, Py_INCREF, Py_None, Py_True, Py_XDECREF, _PyBytes_Resize, get_buffer, long_long,
)

from fastchannels.exceptions import InvalidMessageError, InvalidPayloadError, MessageRangeError, MessageTooLarge

cdef enum:
    STACK = 2048  # bytes of a message that need no allocation but the result
    MAX_DEPTH = 128  # containers inside one another, in both directions
    CACHED_KEYS = 256  # a power of two, see read_key
    CACHED_KEY_SIZE = 32

# Why a message cannot be carried; {type} and {shown} stand for the value at fault.
cdef const char *TYPE = (
    "{type} cannot be carried (a message holds None, bool, int, float, str, bytes, list, tuple and dict with str keys)"
)
cdef const char *RANGE = "{shown} cannot be carried (integers go from -2**63 to 2**64-1)"
cdef const char *KEY = "the key {shown} is of type {type}, keys must be str"
cdef const char *TEXT = "{shown} holds half a surrogate pair, which UTF-8 cannot express"
cdef const char *KEY_TEXT = "the key {shown} holds half a surrogate pair, which UTF-8 cannot express"
cdef const char *DEEP = "nested deeper than 128 levels"
cdef const char *CHANGED = "the {type} changed while it was being encoded"
cdef const char *LONG = "the {type} is longer than 2**32-1"
cdef const char *ITEMS = "the items() of {type} are not pairs"
cdef const char *VIEW = "the memoryview is released or not contiguous"
cdef const char *SIZE = "up to here the encoded message takes {needed} bytes, more than the limit of {limit}"

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
    # NULL when there is none, or when a Python exception is set.
    const char *fault
    # Owned: the value at fault, and the keys and indexes to it, innermost first.
    PyObject *culprit
    PyObject *path
    Py_ssize_t needed


# ---------------------------------------------------------------------------------------------------------- writing


cdef int fail(Out *out, const char *fault, PyObject *culprit) noexcept:
    out.fault = fault
    Py_INCREF(culprit)
    out.culprit = culprit
    return -1


cdef int within(Out *out, PyObject *key) noexcept:
    """Note on the error route that the fault lies under ``key``."""
    if out.fault != NULL:
        if out.path == NULL:
            out.path = PyList_New(0)
        if key == NULL or out.path == NULL or PyList_Append(out.path, key) < 0:
            out.fault = NULL  # out of memory: that exception is set
    return -1


cdef int within_index(Out *out, Py_ssize_t index) noexcept:
    cdef PyObject *key
    if out.fault != NULL:
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
        return fail(out, SIZE, culprit)
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
    # Most keys and values are short: two copies of a fixed size, which may overlap, spare the call.
    if size <= 16:
        if size >= 8:
            memcpy(out.p, data, 8)
            memcpy(out.p + size - 8, data + size - 8, 8)
        elif size >= 4:
            memcpy(out.p, data, 4)
            memcpy(out.p + size - 4, data + size - 4, 4)
        elif size:
            out.p[0] = data[0]
            out.p[size >> 1] = data[size >> 1]
            out.p[size - 1] = data[size - 1]
    else:
        memcpy(out.p, data, size)
    out.p += size
    return 0


cdef inline int pack_text(Out *out, PyObject *o, const char *fault) noexcept:
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
        return fail(out, LONG, o)
    out.p += head
    return put_bytes(out, data, size, o)


cdef inline int pack_bin(Out *out, const uint8_t *data, Py_ssize_t size, PyObject *o) noexcept:
    if out.p > out.soft and grow(out, 0, o) < 0:
        return -1
    cdef size_t head = fc_msgpack_put_bin(out.p, size)
    if head == 0:
        return fail(out, LONG, o)
    out.p += head
    return put_bytes(out, data, size, o)


cdef int pack_view(Out *out, PyObject *o) noexcept:
    cdef Py_buffer view
    cdef int status
    if get_buffer(o, &view, PyBUF_SIMPLE) < 0:
        if not (PyErr_ExceptionMatches(PyExc_BufferError) or PyErr_ExceptionMatches(PyExc_ValueError)):
            return -1
        PyErr_Clear()  # not contiguous, or released
        return fail(out, VIEW, o)
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
    return fail(out, RANGE, o)


cdef inline int pack_pair(Out *out, PyObject *key, PyObject *value, int depth) noexcept:
    """One key and its value, both kept alive meanwhile: packing a value may run code that drops them."""
    cdef int status
    Py_INCREF(key)
    Py_INCREF(value)
    if not PyUnicode_Check(key):
        status = fail(out, KEY, key)
    else:
        status = pack_text(out, key, KEY_TEXT)
        if status == 0:
            status = pack_value(out, value, depth)
            if status < 0:
                within(out, key)
    Py_DECREF(key)
    Py_DECREF(value)
    return status


cdef inline int pack_head(Out *out, size_t head, PyObject *o, int depth) noexcept:
    """Keep the ``head`` of container ``o`` that was written at ``out.p``."""
    if depth >= MAX_DEPTH:
        return fail(out, DEEP, o)
    if head == 0:
        return fail(out, LONG, o)
    out.p += head
    return 0


cdef int pack_dict(Out *out, PyObject *o, int depth) noexcept:
    cdef PyObject *key
    cdef PyObject *value
    cdef Py_ssize_t size = PyDict_GET_SIZE(o), pos = 0, done = 0
    if pack_head(out, fc_msgpack_put_map(out.p, size), o, depth) < 0:
        return -1
    while PyDict_Next(o, &pos, &key, &value):
        if pack_pair(out, key, value, depth + 1) < 0:
            return -1
        done += 1
        # PyDict_Next is safe on a dict that changed, but the head already promised `size` pairs.
        if PyDict_GET_SIZE(o) != size:
            return fail(out, CHANGED, o)
    # Pairs taken out and as many put in behind them are met as well.
    return 0 if done == size else fail(out, CHANGED, o)


cdef int pack_mapping(Out *out, PyObject *o, int depth) noexcept:
    """A subclass of dict, by its own ``items()``: a Django ``QueryDict`` keeps lists and shows their last values."""
    cdef PyObject *item
    cdef PyObject *items = PyMapping_Items(o)
    cdef Py_ssize_t index = 0
    cdef int status
    if items == NULL:
        return -1
    status = pack_head(out, fc_msgpack_put_map(out.p, PyList_GET_SIZE(items)), o, depth)
    while status == 0 and index < PyList_GET_SIZE(items):
        item = PyList_GET_ITEM(items, index)
        if PyTuple_Check(item) and PyTuple_GET_SIZE(item) == 2:
            status = pack_pair(out, PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1), depth + 1)
        else:
            status = fail(out, ITEMS, o)
        index += 1
    Py_DECREF(items)
    return status


cdef int pack_sequence(Out *out, PyObject *o, int depth) noexcept:
    """A list or a tuple."""
    cdef Py_ssize_t size = PySequence_Fast_GET_SIZE(o), index
    cdef PyObject *item
    cdef int status
    if pack_head(out, fc_msgpack_put_array(out.p, size), o, depth) < 0:
        return -1
    for index in range(size):
        item = PySequence_Fast_GET_ITEM(o, index)
        Py_INCREF(item)  # packing it may run code that takes it out of the list
        status = pack_value(out, item, depth + 1)
        Py_DECREF(item)
        if status < 0:
            return within_index(out, index)
        if PySequence_Fast_GET_SIZE(o) != size:
            return fail(out, CHANGED, o)
    return 0


cdef int pack_iterable(Out *out, PyObject *o, int depth) noexcept:
    """A subclass of list or tuple, by its own ``__iter__``."""
    cdef PyObject *items = PySequence_List(o)
    cdef int status
    if items == NULL:
        return -1
    status = pack_sequence(out, items, depth)
    Py_DECREF(items)
    return status


# HOT: benchmarks/bench_msgpack.py
cdef int pack_value(Out *out, PyObject *o, int depth) noexcept:
    """Write ``o``. -1: ``out.fault`` says why, or a Python exception is set.

    Exact types first, the commonest before the others; then subclasses.
    """
    if PyUnicode_CheckExact(o):
        return pack_text(out, o, TEXT)
    # Room for the head of whatever it is.
    if out.p > out.soft and grow(out, 0, o) < 0:
        return -1
    if PyDict_CheckExact(o):
        return pack_dict(out, o, depth)
    if PyLong_CheckExact(o):
        return pack_int(out, o)
    if PyList_CheckExact(o) or PyTuple_CheckExact(o):
        return pack_sequence(out, o, depth)
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
    if PyUnicode_Check(o):
        return pack_text(out, o, TEXT)
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
    return fail(out, TYPE, o)


cpdef bytes pack(obj, Py_ssize_t max_size=0):
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
    out.fault = NULL
    set_soft(&out)
    if pack_value(&out, <PyObject *>obj, 0) < 0:
        return finish_fault(&out)
    size = out.p - out.start
    if max_size and size > max_size:
        out.needed = size
        fail(&out, SIZE, <PyObject *>obj)
        return finish_fault(&out)
    if out.heap == NULL:
        result = PyBytes_FromStringAndSize(<char *>stack, size)
        if result == NULL:
            raise MemoryError
    else:
        result = out.heap
        if _PyBytes_Resize(&result, size) < 0:
            raise MemoryError
    packed = <bytes>result
    Py_DECREF(result)  # `packed` holds it
    return packed


cdef object finish_fault(Out *out):
    """Release what ``out`` owns and raise its fault."""
    culprit = <object>out.culprit if out.culprit != NULL else None
    path = <object>out.path if out.path != NULL else []
    Py_XDECREF(out.culprit)
    Py_XDECREF(out.path)
    Py_XDECREF(out.heap)
    if out.fault == NULL:
        reraise()
    reason = out.fault.decode()
    shown = shown_text(culprit) if "{shown}" in reason else ""
    reason = reason.format(type=type_name(culprit), shown=shown, needed=out.needed, limit=out.limit)
    error = MessageTooLarge if out.fault == SIZE else MessageRangeError if out.fault == RANGE else InvalidMessageError
    raise error(f"message{path_text(path)}: {reason}")


cdef int reraise() except -1:
    """Let the Python exception that is set go on."""
    return -1


cdef str shown_text(o):
    if isinstance(o, int):
        # int's own: a subclass may show itself otherwise, and the interpreter refuses to spell out a very long one.
        bits = int.bit_length(o)
        return int.__repr__(o) if bits <= 128 else f"an integer of {bits} bits"
    return short(ascii(o))


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

# Why bytes are not a message.
cdef const char *TRUNCATED = "the data end inside a value"
cdef const char *NO_TOKEN = "0xc1 starts no value"
cdef const char *OVERSTATED = "a container announces more values than bytes follow"
cdef const char *DEEP_DATA = "nested deeper than 128 levels"
cdef const char *NOT_UTF8 = "text that is not UTF-8"
cdef const char *KEY_KIND = "a key that is neither str nor bytes"
cdef const char *EXT = "an extension value, which no message holds"

# What one call of unpack() reads from. As in Out, a flaw is noted here and raised at the end.
cdef struct In:
    fc_msgpack_reader reader
    # NULL when there is none, or when a Python exception is set.
    const char *flaw
    uint64_t at


cdef PyObject *flawed(In *source, const char *flaw, uint64_t at) noexcept:
    source.flaw = flaw
    source.at = at
    return NULL


cdef PyObject *no_token(In *source, fc_status status) noexcept:
    cdef uint64_t at = source.reader.pos
    if status == FC_NEED_DATA:
        return flawed(source, TRUNCATED, at)
    return flawed(source, NO_TOKEN if source.reader.data[at] == 0xC1 else OVERSTATED, at)


cdef inline PyObject *read_text(In *source, const uint8_t *data, Py_ssize_t size) noexcept:
    cdef PyObject *text
    # PyUnicode_DecodeUTF8 shares the empty str and those of one character.
    if size > 1 and fc_msgpack_is_ascii(data, size):
        text = PyUnicode_New(size, 127)
        if text != NULL:
            memcpy(PyUnicode_1BYTE_DATA(text), data, size)
        return text
    text = PyUnicode_DecodeUTF8(<const char *>data, size, NULL)
    if text == NULL and PyErr_ExceptionMatches(PyExc_UnicodeDecodeError):
        PyErr_Clear()
        return flawed(source, NOT_UTF8, data - source.reader.data)
    return text


cdef inline PyObject *read_key(In *source, const uint8_t *data, Py_ssize_t size) noexcept:
    cdef uint64_t head = 0, tail = 0, index
    cdef PyObject *key
    if size < 2 or size > CACHED_KEY_SIZE:
        return read_text(source, data, size)
    if size >= 8:
        memcpy(&head, data, 8)
        memcpy(&tail, data + size - 8, 8)
    elif size >= 4:
        memcpy(&head, data, 4)
        memcpy(&tail, data + size - 4, 4)
    else:
        memcpy(&head, data, 2)
        memcpy(&tail, data + size - 2, 2)
    # The top 8 bits: one of CACHED_KEYS.
    index = ((head ^ (tail << 29 | tail >> 35) ^ <uint64_t>size) * <uint64_t>0x9E3779B97F4A7C15ULL) >> 56
    key = CACHE[index]
    if key != NULL and PyUnicode_GET_LENGTH(key) == size and memcmp(PyUnicode_1BYTE_DATA(key), data, size) == 0:
        Py_INCREF(key)
        return key
    key = read_text(source, data, size)
    if key != NULL and PyUnicode_IS_COMPACT_ASCII(key):
        PyObject_Hash(key)
        Py_XDECREF(CACHE[index])
        Py_INCREF(key)
        CACHE[index] = key
    return key


cdef inline PyObject *read_pair_key(In *source) noexcept:
    cdef fc_msgpack_token token
    cdef uint64_t at = source.reader.pos
    cdef fc_status status = fc_msgpack_next(&source.reader, &token)
    if status != FC_OK:
        return no_token(source, status)
    if token.kind == FC_MSGPACK_STR:
        return read_key(source, token.data, token.size)
    if token.kind == FC_MSGPACK_BIN:
        return PyBytes_FromStringAndSize(<const char *>token.data, token.size)
    return flawed(source, KEY_KIND, at)


cdef PyObject *read_map(In *source, uint64_t pairs, int depth) noexcept:
    cdef PyObject *key
    cdef PyObject *value
    cdef PyObject *result
    cdef int status
    if depth >= MAX_DEPTH:
        return flawed(source, DEEP_DATA, source.reader.pos)
    result = PyDict_New()
    if result == NULL:
        return NULL
    while pairs:
        pairs -= 1
        status = -1
        key = read_pair_key(source)
        if key != NULL:
            value = read_value(source, depth + 1)
            if value != NULL:
                status = PyDict_SetItem(result, key, value)
                Py_DECREF(value)
            Py_DECREF(key)
        if status < 0:
            Py_DECREF(result)
            return NULL
    return result


cdef PyObject *read_array(In *source, uint64_t size, int depth) noexcept:
    cdef uint64_t index
    cdef PyObject *item
    cdef PyObject *result
    if depth >= MAX_DEPTH:
        return flawed(source, DEEP_DATA, source.reader.pos)
    # The reader has checked that a byte remains for each slot.
    result = PyList_New(size)
    if result == NULL:
        return NULL
    for index in range(size):
        item = read_value(source, depth + 1)
        if item == NULL:
            Py_DECREF(result)
            return NULL
        PyList_SET_ITEM(result, index, item)
    return result


# HOT: benchmarks/bench_msgpack.py
cdef PyObject *read_value(In *source, int depth) noexcept:
    """The next value, as a new reference. NULL: ``source.flaw`` says why, or a Python exception is set."""
    cdef fc_msgpack_token token
    cdef uint64_t at = source.reader.pos
    cdef PyObject *constant
    cdef fc_status status = fc_msgpack_next(&source.reader, &token)
    if status != FC_OK:
        return no_token(source, status)
    if token.kind == FC_MSGPACK_STR:
        return read_text(source, token.data, token.size)
    if token.kind == FC_MSGPACK_MAP:
        return read_map(source, token.size, depth)
    if token.kind == FC_MSGPACK_UINT:
        return PyLong_FromUnsignedLongLong(token.u)
    if token.kind == FC_MSGPACK_ARRAY:
        return read_array(source, token.size, depth)
    if token.kind == FC_MSGPACK_FLOAT:
        return PyFloat_FromDouble(token.f)
    if token.kind == FC_MSGPACK_BIN:
        return PyBytes_FromStringAndSize(<const char *>token.data, token.size)
    if token.kind == FC_MSGPACK_INT:
        return PyLong_FromLongLong(token.i)
    if token.kind == FC_MSGPACK_EXT:
        return flawed(source, EXT, at)
    constant = Py_None if token.kind == FC_MSGPACK_NIL else Py_True if token.kind == FC_MSGPACK_TRUE else Py_False
    Py_INCREF(constant)
    return constant


cdef object read_one(const void *data, Py_ssize_t size):
    cdef In source
    cdef PyObject *result
    source.flaw = NULL
    fc_msgpack_reader_init(&source.reader, data, size)
    result = read_value(&source, 0)
    if result == NULL:
        if source.flaw == NULL:
            reraise()
        raise InvalidPayloadError(f"byte {source.at}: {source.flaw.decode()}")
    value = <object>result
    Py_DECREF(result)  # `value` holds it
    if source.reader.pos != source.reader.size:
        raise InvalidPayloadError(f"byte {source.reader.pos}: {source.reader.size - source.reader.pos} bytes follow the value")
    return value


def unpack(data):
    """The object that ``data`` (bytes, or another contiguous buffer) holds, as ``msgpack.unpackb`` gives it.

    Raises ``InvalidPayloadError``, with the offset, unless ``data`` is exactly one value of the types that
    :func:`pack` writes, with keys of str or bytes, nested 128 deep at most.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return read_one(view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cdef object unpacked(bytes data):
    return read_one(PyBytes_AS_STRING(<PyObject *>data), PyBytes_GET_SIZE(<PyObject *>data))
