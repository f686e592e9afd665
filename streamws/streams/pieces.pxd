import cython

from ..wire.protocol cimport Protocol
from .outbox cimport Outbox
from .turns cimport Turns

@cython.final
cdef class FragmentWriter:
    cdef Protocol _protocol
    cdef Outbox _outbox
    cdef Turns _turns
    cdef object _hub
    cdef object _opcode
    cdef object _compress
    cdef bint _entered
    cdef bint _left

@cython.final
cdef class DataFrameWriter:
    cdef Protocol _protocol
    cdef Outbox _outbox
    cdef Turns _turns
    cdef object _hub
    cdef object _opcode
    cdef bint _entered
    cdef bint _begun
    cdef bint _left
    cdef readonly object length
    cdef readonly object remaining
