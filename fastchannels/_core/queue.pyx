"""What waits for one name in a process, and who may be called for it."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdlib cimport free, malloc


cdef class SharedPayload:
    def __cinit__(self, bytes payload):
        self.payload = payload


cdef class Receiver:
    cdef bint deliver(self, object message, bint shared) except -1:
        raise NotImplementedError


cdef class Queue:
    def __cinit__(self, name, Py_ssize_t capacity):
        self.name = name
        self.capacity = capacity

    def __dealloc__(self):
        for index in range(self.size):
            Py_XDECREF(self.entries[(self.head + index) & (self.room - 1)].item)
        free(self.entries)

    cdef int push(self, object item, double deadline) except -1:
        cdef Py_ssize_t room, index
        cdef entry *entries
        cdef entry *slot
        if self.size == self.room:
            room = self.room * 2 if self.room else 4
            entries = <entry *> malloc(<size_t> room * sizeof(entry))
            if entries == NULL:
                raise MemoryError()
            for index in range(self.size):
                entries[index] = self.entries[(self.head + index) & (self.room - 1)]
            free(self.entries)
            self.entries = entries
            self.room = room
            self.head = 0
        slot = &self.entries[(self.head + self.size) & (self.room - 1)]
        Py_INCREF(item)
        slot.item = <PyObject *> item
        slot.deadline = deadline
        self.size += 1
        return 0

    cdef object pop(self, double *deadline):
        """The first item; the queue is not empty. Its reference passes to the caller."""
        cdef entry *slot = &self.entries[self.head]
        item = <object> slot.item
        Py_XDECREF(slot.item)
        deadline[0] = slot.deadline
        self.head = (self.head + 1) & (self.room - 1)
        self.size -= 1
        if self.size == 0 and self.room > 64:
            # A burst does not keep its memory.
            free(self.entries)
            self.entries = NULL
            self.room = 0
            self.head = 0
        return item

    cdef bint watched(self) noexcept:
        return self.receiver is not None or self.ahead is not None or bool(self.waiters) or bool(self.woken)
