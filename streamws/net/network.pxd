import cython

from .poll cimport Watched
from .sockets cimport send_now, send_parts_now

cdef Py_ssize_t _FEW

cdef class Receiver:
    cpdef object get_buffer(self, Py_ssize_t sizehint)
    cpdef buffer_updated(self, Py_ssize_t nbytes)

cdef class DirectTransport(Watched):
    cpdef write_bytes(self, bytes data)
    cpdef write_parts(self, list parts)
    cpdef Py_ssize_t get_write_buffer_size(self) except -1

@cython.final
cdef class Network:
    cdef object _transport
    cdef DirectTransport _direct
    cdef int _descriptor
    cdef bint _queued
    cdef object _layer
    cdef readonly bint never_delivers
    cdef readonly bint copies

    @cython.locals(direct=DirectTransport, sent=Py_ssize_t)
    cpdef write(self, bytes data)
    @cython.locals(direct=DirectTransport, sent=Py_ssize_t)
    cpdef write_parts(self, list parts)
    @cython.locals(first=Py_ssize_t)
    cdef _write_rest(self, list parts, Py_ssize_t sent)
    @cython.locals(direct=DirectTransport)
    cpdef Py_ssize_t backlog(self) except -1
    cpdef Py_ssize_t overhead(self) except -1
    cpdef release_idle_memory(self)
    cpdef close(self)
    cdef bint _is_clear(self)
