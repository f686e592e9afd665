cimport cython

from .internals cimport mark_yielded

cdef bint YIELDS_FUTURES

@cython.final
cdef class _Pending:
    pass

@cython.final
cdef class _Failed:
    pass

cdef object PENDING
cdef object FAILED

cpdef keep_results(bint kept)

cpdef bint run_in(context, callback, argument) except -1

cdef class Operation:
    cdef public object future
    cdef public bint finished
    cdef public object error
    cdef object _driver
    cpdef object poll(self)
    cpdef abandon(self)

cdef class Done(Operation):
    cdef readonly object value
    cpdef object poll(self)
