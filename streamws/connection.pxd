import cython

from .net.network cimport Network, Receiver
from .streams.inbox cimport Inbox
from .streams.outbox cimport Outbox
from .streams.writer cimport Writer
from .wire.parser cimport Parser
from .wire.protocol cimport Protocol

cdef Py_ssize_t _USUAL_READ

cdef class Connection(Receiver):
    cdef object __weakref__
    cdef public object environment
    cdef bint _server
    cdef object _opening
    cdef object _share
    cdef object _view
    cdef object _buffer
    cdef public object transport
    cdef public Network network
    cdef object _final
    cdef bint _large_reads
    cdef bint _greedy
    cdef bint _working
    cdef bint _alive
    cdef long long _handed
    cdef long long _ping_place
    cdef long long _taken
    cdef list _closed
    cdef Py_ssize_t _control_backlog
    cdef public object on_ping
    cdef public object on_pong
    cdef public object on_lost
    cdef public Inbox inbox
    cdef public Outbox outbox
    cdef public object pings
    cdef public Protocol protocol
    cdef public Writer writer

    cpdef object get_buffer(self, Py_ssize_t sizehint)
    cdef object _get_buffer_for_frame(self)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    @cython.locals(protocol=Protocol, parser=Parser, outbox=Outbox, items=list)
    cdef _work_off(self, object data, Py_ssize_t nbytes)
    @cython.locals(protocol=Protocol)
    cdef _answer_pings(self)
    @cython.locals(protocol=Protocol)
    cdef _send_owed(self)
    @cython.locals(protocol=Protocol)
    cdef _settle(self)
    cdef Py_ssize_t _excess(self, Py_ssize_t waiting)
    cdef _fail_too_slow(self, Py_ssize_t backlog)
    cpdef fail(self, object code, object reason, object cause, object side=*, object detail=*)
    cdef _give_up(self)
    cdef _closing(self)
