# CPython's own functions with bare pointers, for code that reports its faults itself and decides which references it
# needs. Cython's cimports would check for an exception after every call.
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t

cdef extern from "Python.h" nogil:
    ctypedef long long long_long "long long"
    PyObject *Py_None
    PyObject *Py_True
    PyObject *Py_False
    PyObject *PyExc_UnicodeEncodeError
    PyObject *PyExc_UnicodeDecodeError
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
    Py_ssize_t PySequence_Fast_GET_SIZE(PyObject *o)
    PyObject *PySequence_Fast_GET_ITEM(PyObject *o, Py_ssize_t index)
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
