import cython

cdef int FAIRNESS

@cython.final
cdef class Gate:
    cdef object _loop
    cdef object _transport
    cdef int _ignored
    cdef readonly int reasons

    @cython.locals(before=int)
    cpdef pause(self, int reason)
    cpdef resume(self, int reason)
    cpdef ignore(self, int reason)
    cpdef give_way(self)
    cpdef close(self)
