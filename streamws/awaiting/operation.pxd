cimport cython

from .internals cimport callbacks_of, mark_yielded, task_of

cdef bint YIELDS_FUTURES
cdef bint RECORDS_AWAITING
cdef object add_to_awaited_by
cdef object discard_from_awaited_by

@cython.final
cdef class _Pending:
    pass

@cython.final
cdef class _Failed:
    pass

cdef object PENDING
cdef object FAILED

cpdef keep_results(bint kept)

cpdef int count_callbacks(future) except -1
cpdef bint wake_by(future, argument) except -1

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
