import cython

from ..wire.deflate cimport Deflater
from ..wire.protocol cimport Protocol, unchanging

@cython.final
cdef class SharedMessage:
    cdef readonly object data
    cdef readonly object compress
    cdef bytes _frame
    cdef dict _compressed

    @cython.locals(deflater=Deflater, frame=bytes, inflated="long long", compressed="long long")
    cpdef bytes frame_for(self, Protocol protocol)
