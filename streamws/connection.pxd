import cython

from .awaiting.operation cimport keep_results
from .net.gate cimport Gate
from .net.network cimport Network, Receiver
from .streams.inbox cimport Inbox
from .streams.keepalive cimport Keepalive
from .streams.outbox cimport Outbox
from .streams.turns cimport Turns
from .streams.writer cimport Writer
from .wire.partial cimport PartialFrame
from .wire.protocol cimport Protocol

cdef Py_ssize_t _USUAL_READ
cdef int UNREAD, OPENING

cdef class Connection(Receiver):
    cdef object __weakref__
    cdef public object environment
    cdef bint _server
    cdef object _opening
    cdef object _share
    cdef object _view
    cdef object _buffer
    cdef public object transport
    cdef object _named
    cdef object _address
    cdef bint _secure
    cdef public object forwarding
    cdef readonly Gate gate
    cdef readonly Network network
    cdef bint _large_reads
    cdef bint _greedy
    cdef bint _processing
    cdef object _close_timer
    cdef list _closed
    cdef list _call_when_closed
    cdef Py_ssize_t _unread_pongs
    cdef public object on_ping
    cdef public object on_pong
    cdef public object on_lost
    cdef public object on_slow
    cdef public object client_id
    cdef public str target
    cdef public str server_name
    cdef readonly double opened_at
    cdef readonly double opened
    cdef readonly double ended
    cdef readonly Inbox inbox
    cdef readonly Keepalive keepalive
    cdef readonly Outbox outbox
    cdef readonly object pings
    cdef readonly Protocol protocol
    cdef readonly Turns turns
    cdef readonly Writer writer

    cpdef object get_buffer(self, Py_ssize_t sizehint)
    cdef object _get_buffer_for_frame(self)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    @cython.locals(protocol=Protocol, frame=PartialFrame, outbox=Outbox, items=list, still_to_run=bint)
    cdef _process_chunk(self, object data, Py_ssize_t nbytes)
    @cython.locals(protocol=Protocol)
    cdef _answer_pings(self)
    @cython.locals(protocol=Protocol)
    cdef _process_control(self)
    cpdef fail(self, object code, object reason, object cause, object side=*, object detail=*)
    cdef _end_failed(self)
    cdef _begin_closing(self)
    cdef _limit_closing(self)
    cdef _end_closing_handshake(self)
    cpdef end_writing(self)
    cpdef tuple address(self)
    @cython.locals(protocol=Protocol)
    cdef _lose(self, object error)
