import cython

from .poll cimport Watched
from .sockets cimport accept_now

cdef int READ, _MAX_ACCEPTS

@cython.final
cdef class Openings:
    cdef object _loop
    cdef readonly Py_ssize_t limit
    cdef bint _counted
    cdef dict _under_way
    cdef list _listeners
    cdef object _timer
    cdef bint _warned

    cpdef bint is_full(self) noexcept
    cpdef bint is_over_limit(self) noexcept
    cpdef begin(self, object key)
    cpdef set_transport(self, object transport)
    cpdef end(self, object key)
    cpdef wait(self, object listener)
    cdef _resume(self)
    cpdef close(self)

cdef class Listener(Watched):
    cdef object _loop
    cdef object _sock
    cdef object _descriptor_hold
    cdef object _factory
    cdef Openings _openings
    cdef object _path
    cdef object _timer
    cdef bint _exhausted
    cdef object _poll

    @cython.locals(count=int)
    cpdef object read_ready(self)
    cdef _start(self, int descriptor, object peer)
    cpdef pause(self)
    cpdef resume(self)

cdef class Connections:
    pass
