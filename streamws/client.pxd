import cython

from .connection cimport Connection
from .streams.inbox cimport Inbox
from .streams.reads cimport next_frame, whole_message
from .streams.shared cimport SharedMessage
from .streams.writer cimport Writer

@cython.final
cdef class Client:
    cdef object __weakref__
    cdef readonly Connection _connection
    cdef object _spawn
    cdef object _agreement
    cdef object _callbacks
    cdef readonly Writer writer
    cdef readonly object id
    cdef readonly object request

    @cython.locals(inbox=Inbox)
    cdef Inbox _inbox(self, str call)

@cython.locals(client=Client, count=Py_ssize_t)
cpdef Py_ssize_t send_to_all(SharedMessage message, tuple clients) except -1
