import cython

cdef class Deadlines:
    cdef public object _loop
    cdef readonly object seconds
    cdef readonly dict _due
    cdef readonly object _timer

    cpdef add(self, object expired)
    cpdef discard(self, object expired)
    cpdef _expire(self)
