import cython

cdef class Deadlines:
    cdef object _loop
    cdef readonly object seconds
    cdef dict _due
    cdef object _timer

    cpdef add(self, object expired)
    cpdef discard(self, object expired)
    cpdef _expire(self)
