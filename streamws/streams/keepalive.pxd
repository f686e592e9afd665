import cython

from ..net.gate cimport Gate
from ..net.loops cimport Deadlines
from ..net.network cimport Network
from ..net.sockets cimport count_unacknowledged
from ..wire.protocol cimport Protocol
from .outbox cimport Outbox
from .pings cimport Ping, Pings

cdef int UNREAD

@cython.final
cdef class Keepalive:
    cdef Protocol _protocol
    cdef Outbox _outbox
    cdef Network _network
    cdef Gate _gate
    cdef Pings _pings
    cdef object _hub
    cdef Ping _last
    cdef Deadlines _ping_times
    cdef Deadlines _checks
    cdef int _descriptor
    cdef public bint alive
    cdef long long _ping_end
    cdef long long _delivered
    cdef bint _blind
    cdef int _silence

    cpdef frame_sent(self)
    cpdef close(self)
