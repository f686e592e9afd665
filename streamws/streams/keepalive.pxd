import cython

from ..net.gate cimport Gate
from ..net.network cimport Network
from ..wire.protocol cimport Protocol
from .outbox cimport Outbox

cdef int UNREAD

@cython.final
cdef class Keepalive:
    cdef Protocol _protocol
    cdef Outbox _outbox
    cdef Network _network
    cdef Gate _gate
    cdef object _pings
    cdef object _hub
    cdef object _ping_times
    cdef object _pong_deadlines
    cdef int _descriptor
    cdef public bint alive
    cdef long long _ping_end
    cdef long long _delivered

    cpdef frame_sent(self)
    cpdef close(self)
