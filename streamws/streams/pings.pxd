import cython

cdef Py_ssize_t MAX_FORGOTTEN

cdef class Ping:
    cdef readonly bytes payload
    cdef readonly double sent
    cdef public object round_trip
    cdef public object error
    cdef public object make
    cdef public object waiter

    cdef bint is_awaited(self) except -1
    cpdef wake(self)

cdef class Pings:
    cdef object _loop
    cdef readonly list _waiting
    cdef Py_ssize_t _full
    cdef readonly object latency

    @cython.locals(ping=Ping, waiting=Ping)
    cpdef Ping begin(self, bytes payload)
    cpdef forget(self, Ping ping)
    @cython.locals(pings=list, place=Py_ssize_t, ping=Ping, now=double)
    cpdef answer(self, bytes payload)
