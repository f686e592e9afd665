import cython

from .network cimport Receiver
from .sockets cimport receive_now

@cython.final
cdef class SelectorTransport:
    cdef object __weakref__
    cdef object _loop
    cdef object _sock
    cdef object _descriptor_hold
    cdef int _descriptor
    cdef object _protocol
    cdef Receiver _receiver
    cdef dict _info
    cdef object _queue
    cdef Py_ssize_t _queue_size
    cdef Py_ssize_t _high
    cdef Py_ssize_t _low
    cdef bint _writing_paused
    cdef bint _reading
    cdef bint _eof_received
    cdef bint _writing_ended
    cdef object _error
    cdef bint _closing

    @cython.locals(receiver=Receiver, count=Py_ssize_t)
    cpdef bint _read_ready(self) except -1
    cdef _write_queue(self)
    cdef _lose(self, error)
