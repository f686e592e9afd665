import cython

from .operation cimport run_in

cdef object _current_task

@cython.final
cdef class Waiter:
    cdef object _loop
    cdef object _finished
    cdef object _future
    cdef bint _unused
    cpdef object arm(self)
    cpdef bint is_cancelled(self)
    @cython.locals(callbacks=list)
    cpdef wake(self, bint soon)
    cpdef wake_later(self)
