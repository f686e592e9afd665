import cython

cdef Py_ssize_t _PIECE

cdef class Engine:
    cdef object _incoming
    cdef object _outgoing
    cdef object _inner
    cdef object _came
    cdef readonly object object
    cdef public bint ended
    cdef public object error

    cpdef feed(self, data, Py_ssize_t size)
    cpdef keep(self)
    cdef bint _feed_on(self) except -1
    cpdef bint shake_hands(self) except -1
    @cython.locals(size=Py_ssize_t, room=Py_ssize_t, count=Py_ssize_t)
    cpdef Py_ssize_t unseal(self, buffer) except -1
    cpdef seal(self, data)
    cpdef bint owes(self) except -1
    cpdef bytes take(self)
    cpdef rest(self)
    cpdef end(self)
