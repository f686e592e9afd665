import cython

from .sockets cimport thread_number

cdef class Flushable:
    cpdef end_iteration(self)

@cython.final
cdef class Iteration:
    cdef list _waiting
    cdef bint _scheduled
    cdef bint _in_batch
    cdef Py_ssize_t _stride
    cdef Py_ssize_t _left
    cdef double _began
    cdef double _looked
    cdef readonly unsigned long thread
    cdef readonly Py_ssize_t number

    cpdef enter(self)
    cpdef bint is_foreign(self, loop) except -1
    cpdef check_thread(self, loop, str call)
    cpdef check_await(self, loop, str call)
    cdef bint _is_elsewhere(self, loop) except -1
    cpdef begin(self, loop)
    cpdef add(self, Flushable outbox)
    @cython.locals(outbox=Flushable)
    cpdef _end(self)
    cpdef begin_batch(self)
    cpdef end_batch(self)
    cpdef bint spend(self, loop) except -1
    @cython.locals(now=double, wanted=double)
    cdef bint _is_over(self, loop) except -1
    cdef _restart(self)
