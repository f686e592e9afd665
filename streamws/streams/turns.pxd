import cython

from ..wire.protocol cimport Protocol
from .outbox cimport Outbox

@cython.final
cdef class Turns:
    cdef object _loop
    cdef Protocol _protocol
    cdef Outbox _outbox
    cdef object _holder
    cdef object _waiting
    cdef public bint busy
    cdef readonly Py_ssize_t size
    cpdef release(self)
    cpdef close(self)
