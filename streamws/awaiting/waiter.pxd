import cython

from .internals cimport callbacks_of, task_of
from .operation cimport count_callbacks, wake_by

cdef bint WAKES_DIRECTLY
cdef object current_task

@cython.final
cdef class Waiter:
    cdef object _loop
    cdef object _finished
    cdef object _future
    cdef bint _untouched
    cdef object _task
    cpdef object arm(self)
    cpdef bint is_cancelled(self)
    @cython.locals(count=int)
    cpdef bint wake(self, bint soon) except -1
    cpdef wake_later(self)
