import cython

from ..wire.deflate cimport DeflatedFrame, Inflater
from .queue cimport Queue

cdef object DataFrame
cdef unsigned int _CONTINUATION, _TEXT

@cython.final
cdef class Inflation:
    cdef readonly Inflater inflater
    cdef Queue _queue
    cdef Py_ssize_t _max_size
    cdef readonly object problem
    cdef public Py_ssize_t work

    cpdef bint is_pending(self) noexcept
    @cython.locals(queue=Queue, inflater=Inflater, frame=DeflatedFrame, place=Py_ssize_t, left=Py_ssize_t, data=bytes)
    cpdef bint inflate(self, Py_ssize_t end) except -1
    cpdef bint inflate_open(self) except -1
    @cython.locals(inflater=Inflater, data=bytes)
    cpdef object take_message(self, DeflatedFrame frame)
    @cython.locals(inflater=Inflater, data=bytes)
    cpdef object take_piece(self, DeflatedFrame frame)
    @cython.locals(size=Py_ssize_t, least=Py_ssize_t)
    cpdef Py_ssize_t skip(self, DeflatedFrame frame, Py_ssize_t most) except? -1
    cpdef Py_ssize_t skip_pending(self, Py_ssize_t most) except? -1
    cpdef bint is_at_end(self) noexcept
