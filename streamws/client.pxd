import cython

from .connection cimport Connection
from .streams.writer cimport Writer

@cython.final
cdef class Client:
    cdef object __weakref__
    cdef readonly Connection _connection
    cdef object _make_callbacks
    cdef object _agreement
    cdef object _callbacks
    cdef readonly Writer writer
    cdef readonly object id
    cdef readonly str addr
    cdef readonly object port
    cdef readonly object request
    cdef readonly object subprotocol
