import cython

from ..connection cimport Connection
from ..streams.inbox cimport Inbox
from ..streams.inflation cimport Inflation
from ..streams.outbox cimport Outbox
from ..wire.deflate cimport Deflater
from ..wire.protocol cimport Protocol

@cython.final
cdef class Counts:
    cdef public long long messages_received
    cdef public long long messages_sent
    cdef public long long bytes_received
    cdef public long long bytes_sent
    cdef public long long compressed_received
    cdef public long long inflated_received
    cdef public long long compressed_sent
    cdef public long long inflated_sent
    cdef public long long backlog
    cdef public long long largest_backlog

    @cython.locals(protocol=Protocol, inbox=Inbox, outbox=Outbox, deflater=Deflater, inflation=Inflation,
                   backlog="long long")
    cpdef add(self, Connection connection)
    @cython.locals(copy=Counts)
    cpdef Counts copy(self)
