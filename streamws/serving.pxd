import cython

from .client cimport Client
from .connection cimport Connection
from .net.accepting cimport Connections, Openings
from .watching.counting cimport Counts

cdef class Serving(Connections):
    cdef public object policy
    cdef public object handler
    cdef public object on_connection
    cdef public object on_request
    cdef readonly dict clients
    cdef readonly set connections
    cdef public bint stopping
    cdef public bint draining
    cdef object _hurry
    cdef readonly set _tasks
    cdef object _environment
    cdef object _context
    cdef object _observer
    cdef object _observation
    cdef double _started
    cdef object _started_at
    cdef public long long handshakes
    cdef public long long failed
    cdef readonly dict refused
    cdef object _lock
    cdef Counts _counted
    cdef dict _closed
    cdef public object proxies
    cdef readonly object client_quota
    cdef readonly object handshake_quota

    @cython.locals(clients=tuple, counts=Counts, client=Client)
    cpdef object stats(self)
    cdef _start_handler(self, object handler, object client, Connection connection)
    cdef _fail_handler(self, object error, object client, Connection connection)

cdef class ServerOpening:
    cdef object _connection
    cdef object _environment
    cdef Openings _openings
    cdef object _reader
    cdef object _request
    cdef bint _responded
    cdef bint _excess
    cdef str _address
    cdef Serving _serving
    cdef object _task
    cdef bint _under_way

    cdef _release(self)
    cdef _end(self)
    cdef bint _take(self, str address) except -1
    cdef _accept(self, Connection connection, object request, object reader, object accept=*)
    cdef _refuse(self, Connection connection, object response, object reason, object request)
    cdef _respond(self, Connection connection, object response, object reason, object request)
