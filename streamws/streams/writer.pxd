import cython

from ..awaiting.operation cimport Done
from ..net.sockets cimport thread_number
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
    cdef public int held
    @cython.locals(protocol=Protocol)
    cdef object _send(self, object data, object compress)
    @cython.locals(protocol=Protocol, outbox=Outbox)
    cdef object _send_text(self, object data, object compress)
    @cython.locals(frame=bytes)
    cpdef bint _send_shared(self, SharedMessage message) except -1
    @cython.locals(frame=bytes)
    cdef bint _send_shared_in_turn(self, SharedMessage message) except -1

@cython.locals(writer=Writer, others=list, place=Py_ssize_t)
cpdef list send_to_ready(SharedMessage message, tuple writers)
