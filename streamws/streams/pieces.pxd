import cython

from ..wire.protocol cimport Protocol
from .outbox cimport Outbox
from .turns cimport Turns

cdef class PartsWriter:
    cdef str _call
    cdef Protocol _protocol
    cdef Outbox _outbox
    cdef Turns _turns
    cdef object _hub
    cdef object _opcode
    cdef bint _entered
    cdef bint _left
    cdef _check_inside(self)
    cdef _truncate(self, str detail)

@cython.final
cdef class FragmentWriter(PartsWriter):
    cdef object _compress

@cython.final
cdef class DataFrameWriter(PartsWriter):
    cdef bint _begun
    cdef readonly object length
    cdef readonly object remaining
