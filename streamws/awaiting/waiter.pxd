import cython

from .internals cimport callbacks_of, task_of
from .operation cimport run_in

cdef bint RECORDS_AWAITING
cdef bint WAKES_DIRECTLY
cdef object add_to_awaited_by
cdef object current_task
cdef object discard_from_awaited_by

@cython.final
cdef class Waiter:
    cdef object _loop
    cdef object _finished
    cdef object _future
    cdef bint _untouched
    cdef object _task
    cpdef object arm(self)
    cpdef bint is_cancelled(self)
    @cython.locals(callbacks=list)
    cpdef bint wake(self, bint soon) except -1
    cpdef wake_later(self)
