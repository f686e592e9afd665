import cython

from ..wire.deflate cimport DeflatedFrame
from ..wire.payload cimport WideText

cdef Py_ssize_t _OVERHEAD, _COMPACT_FROM
cdef object DataFrame

@cython.final
cdef class Queue:
    cdef readonly list items
    cdef readonly Py_ssize_t head
    cdef readonly long long messages
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t complete
    cdef readonly Py_ssize_t open_size
    cdef readonly Py_ssize_t open_frames
    cdef readonly Py_ssize_t inflated
    cdef readonly Py_ssize_t inflated_size

    @cython.locals(messages=Py_ssize_t)
    cpdef put(self, list items)
    cpdef bint is_empty(self) noexcept
    cdef object first(self)
    @cython.locals(items=list, head=Py_ssize_t, size=Py_ssize_t)
    cdef object take_bare(self, Py_ssize_t max_size)
    cpdef object take(self)
    @cython.locals(growth=Py_ssize_t)
    cdef replace(self, Py_ssize_t place, object frame)
    @cython.locals(size=Py_ssize_t, last=Py_ssize_t)
    cdef tuple first_message_size(self)
    cdef object join(self, Py_ssize_t frames)
    cpdef clear(self)

cpdef Py_ssize_t item_size(object item) except -1
@cython.locals(least="unsigned long long")
cpdef unsigned long long counted_size(unsigned long long size, unsigned long long frames) noexcept
cpdef object as_frame(object item)
