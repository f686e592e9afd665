import cython

from ..awaiting.operation cimport Done
from ..wire.protocol cimport Protocol
from .outbox cimport Outbox

cdef object SENT

@cython.final
cdef class Writer:
    cdef object _loop
    cdef readonly Protocol _protocol
    cdef readonly Outbox _outbox
    cdef object _pings
    cdef readonly object _line
    cdef public bint _busy
    cdef bint _by_frames
    cdef object _holder
    cdef object _waiting
    cdef Py_ssize_t _queued
    @cython.locals(protocol=Protocol)
    cpdef object send(self, object data, object compress=*)

@cython.final
cdef class FragmentWriter:
    cdef Writer _writer
    cdef object _compress
    cdef object _opcode
    cdef bint _entered
    cdef bint _left

@cython.final
cdef class DataFrameWriter:
    cdef Writer _writer
    cdef object _opcode
    cdef bint _entered
    cdef bint _begun
    cdef bint _left
    cdef readonly object length
    cdef readonly object remaining
