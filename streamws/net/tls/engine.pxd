import cython

cdef Py_ssize_t _PIECE

cdef class Engine:
    cdef object _incoming
    cdef object _outgoing
    cdef object _inner
    cdef object _input
    cdef readonly object ssl_object
    cdef public bint ended
    cdef public object error

    cpdef feed(self, data, Py_ssize_t size)
    cpdef keep(self)
    cdef bint _feed_more(self) except -1
    cpdef bint continue_handshake(self) except -1
    @cython.locals(size=Py_ssize_t, room=Py_ssize_t, count=Py_ssize_t)
    cpdef Py_ssize_t decrypt(self, buffer) except -1
    cpdef encrypt(self, data)
    cpdef bint has_output(self) except -1
    cpdef bytes output(self)
    cpdef release_idle_memory(self)
    cpdef end(self)
