import cython

from .connection cimport Connection
from .streams.iterators cimport begin_message
from .streams.reader cimport MessageReader

cdef object CoroutineType, isawaitable

@cython.final
cdef class Callbacks:
    cdef Connection _connection
    cdef bint _failed
    cdef object _message
    cdef list _queue
    cdef bint _running
    cdef object _spawn
    cdef Py_ssize_t _waiting

    cdef _receive(self, object callback, object payload, object context)
    cdef object _begin(self, object callback, object argument)
    cdef _end(self, MessageReader reader)
    cdef _run_next(self)
