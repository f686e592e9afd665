import cython

from .network cimport Receiver
from .sockets cimport receive_now

@cython.final
cdef class SelectorTransport:
    cdef object __weakref__
    cdef object _loop
    cdef object _sock
    cdef object _hold
    cdef int _descriptor
    cdef object _protocol
    cdef Receiver _receiver
    cdef dict _info
    cdef object _waiting
    cdef Py_ssize_t _size
    cdef Py_ssize_t _high
    cdef Py_ssize_t _low
    cdef bint _pausing
    cdef bint _reading
    cdef bint _exhausted
    cdef bint _ended
    cdef object _error
    cdef bint _closing

    @cython.locals(receiver=Receiver, count=Py_ssize_t)
    cpdef bint _read_ready(self) except -1
    cdef _send_waiting(self)
    cdef _lose(self, error)
