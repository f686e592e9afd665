import cython

from ..wire.kernels cimport Done
from ..wire.protocol cimport Protocol
from .outbox cimport Outbox

cdef object SENT

@cython.final
cdef class Writer:
    cdef object _loop
    cdef Protocol _protocol
    cdef Outbox _outbox
    cdef object _pings
    cdef object _failing
    cdef bint _busy
    cdef bint _by_frames
    cdef object _waiting
    @cython.locals(protocol=Protocol)
    cpdef object send(self, object data)

cdef class FragmentWriter:
    cdef Writer _writer
    cdef object _opcode
    cdef bint _entered
    cdef bint _left
