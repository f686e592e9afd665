import cython

from .network cimport DirectTransport, Receiver
from .sockets cimport receive_now, send_now, send_parts_now

cdef int READ, WRITE
cdef Py_ssize_t _COMPACT_FROM

cdef class SelectorTransport(DirectTransport):
    cdef object __weakref__
    cdef object _loop
    cdef object _sock
    cdef object _descriptor_hold
    cdef object _protocol
    cdef Receiver _receiver
    cdef object _peer
    cdef object _local
    cdef object _poll
    cdef list _queue
    cdef Py_ssize_t _queue_head
    cdef Py_ssize_t _written
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
    @cython.locals(sent=Py_ssize_t)
    cpdef write_bytes(self, bytes data)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t)
    cpdef write_parts(self, list parts)
    cdef _wait_writable(self, Py_ssize_t sent)
    @cython.locals(queue=list, head=Py_ssize_t)
    cdef _remove_written(self, Py_ssize_t count)
    cdef _clear_queue(self)
    cdef _pause_writing(self)
    @cython.locals(sent=Py_ssize_t)
    cdef _write_queue(self)
    cpdef Py_ssize_t get_write_buffer_size(self) except -1
    cpdef bint is_closing(self) except -1
    cdef _lose(self, error)
    cdef _close_socket(self)
    cdef object _socket(self)
