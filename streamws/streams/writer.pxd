import cython

from ..awaiting.operation cimport Done
from ..wire.protocol cimport Protocol
from .outbox cimport Outbox
from .shared cimport SharedMessage
from .turns cimport Turns

cdef object SENT

@cython.final
cdef class Writer:
    cdef readonly Protocol _protocol
    cdef readonly Outbox _outbox
    cdef readonly Turns _turns
    cdef object _pings
    cdef object _hub
    cdef bint _by_frames
    @cython.locals(protocol=Protocol)
    cpdef object send(self, object data, object compress=*)
    @cython.locals(protocol=Protocol, turns=Turns, outbox=Outbox, frame=bytes)
    cpdef bint _send_shared(self, SharedMessage message) except -1

@cython.locals(writer=Writer, count=Py_ssize_t)
cpdef Py_ssize_t send_to_all(SharedMessage message, clients) except -1
