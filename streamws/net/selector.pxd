import cython

from .network cimport Receiver
from .poll cimport Watched
from .sockets cimport receive_now

cdef int READ, WRITE

cdef class SelectorTransport(Watched):
    cdef object __weakref__
    cdef object _loop
    cdef object _sock
    cdef object _descriptor_hold
    cdef object _protocol
    cdef Receiver _receiver
    cdef object _peer
    cdef object _poll
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
    cpdef object read_ready(self)
    cpdef write_ready(self)
    cdef _write_queue(self)
    cdef _lose(self, error)
    cdef _close_socket(self)
    cdef object _socket(self)
