import cython

cdef class Ping:
    cdef readonly bytes payload
    cdef readonly double sent
    cdef public object round_trip
    cdef public object error
    cdef public object waiter

    cpdef wake(self)

cdef class Pings:
    cdef object _loop
    cdef readonly list _waiting
    cdef readonly object latency

    cpdef Ping begin(self, bytes payload)
    @cython.locals(pings=list, place=Py_ssize_t, ping=Ping, now=double)
    cpdef answer(self, bytes payload)
