import cython

from .iteration cimport Iteration
from .sockets cimport Epoll

cdef int BROKEN, READ, WRITE
cdef double _MAX_SECONDS

cdef class Watched:
    cdef public int descriptor
    cdef public int events
    cdef public unsigned int generation

    @cython.locals(descriptor=int)
    cpdef int release(self) noexcept
    cpdef object read_ready(self)
    cpdef write_ready(self)

@cython.final
cdef class Poll:
    cdef object __weakref__
    cdef object _loop
    cdef Iteration _iteration
    cdef Epoll _epoll
    cdef list _entries
    cdef unsigned int _generation
    cdef Py_ssize_t _users
    cdef int _count
    cdef int _next

    cpdef attach(self)
    cpdef detach(self)
    @cython.locals(before=int, descriptor=int, entries=list)
    cpdef watch(self, Watched watched, int events)
    @cython.locals(epoll=Epoll, index=int, descriptor=int, watched=Watched, debug=bint, start=double, before=double, now=double)
    cpdef _process(self)
    cdef _serve(self, Watched watched, int events)
    cdef bint _is_debugging(self) except -1
