import cython

from .poll cimport Watched
from .sockets cimport accept_now

cdef int READ, _MAX_ACCEPTS

@cython.final
cdef class Openings:
    cdef readonly Py_ssize_t limit
    cdef readonly Py_ssize_t count
    cdef list _listeners
    cdef bint _warned

    cpdef begin(self)
    cpdef end(self)
    cpdef wait(self, listener)

cdef class Listener(Watched):
    cdef object _loop
    cdef object _sock
    cdef object _factory
    cdef Openings _openings
    cdef object _path
    cdef object _timer
    cdef bint _exhausted
    cdef object _poll

    cpdef object read_ready(self)
    cdef _start(self, int descriptor, object peer)
    cpdef pause(self)
    cpdef resume(self)

cdef class Connections:
    pass
