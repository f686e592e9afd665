import cython

from ..wire.protocol cimport Protocol, unchanging

@cython.final
cdef class SharedMessage:
    cdef readonly object data
    cdef readonly object compress
    cdef bytes _frame
    cdef dict _compressed

    cpdef bytes frame_for(self, Protocol protocol)
