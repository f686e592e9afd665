import cython

from ..wire.deflate cimport DeflatedFrame
from ..wire.partial cimport PartialFrame
from .inflation cimport Inflation
from .queue cimport Queue, item_size

cdef Py_ssize_t _OVERHEAD
cdef object DataFrame

@cython.final
cdef class Skipper:
    cdef Queue _queue
    cdef PartialFrame _frame
    cdef Inflation _inflation
    cdef Py_ssize_t _budget
    cdef readonly bint active

    cpdef begin(self, Py_ssize_t budget)
    @cython.locals(skipped=Py_ssize_t)
    cpdef bint skip(self) except -1
    @cython.locals(queue=Queue, inflation=Inflation, budget=Py_ssize_t, skipped=Py_ssize_t, size=Py_ssize_t)
    cdef Py_ssize_t _skip(self) except? -1
    @cython.locals(queue=Queue, inflation=Inflation, left=Py_ssize_t, size=Py_ssize_t)
    cpdef bint drop_queue(self) except -1
