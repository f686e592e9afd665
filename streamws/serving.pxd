import cython

from .connection cimport Connection
from .net.accepting cimport Connections, Openings

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
    cdef object _openings
    cdef readonly set _tasks
    cdef object _environment
    cdef object _context

    cdef _start_handler(self, object handler, object client, Connection connection)
    cdef _fail_handler(self, object error, object client, Connection connection)

cdef class ServerOpening:
    cdef object _connection
    cdef object _environment
    cdef Openings _openings
    cdef object _reader
    cdef bint _responded
    cdef Serving _serving
    cdef object _task

    cdef _release(self)
    cdef _end(self)
    cdef _accept(self, Connection connection, object request, object reader)
    cdef _refuse(self, Connection connection, object response, object reason, object method)
    cdef _respond(self, Connection connection, object response, object method)
