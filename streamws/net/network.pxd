import cython

from .sockets cimport send_now, send_parts_now

cdef class Receiver:
    cpdef object get_buffer(self, Py_ssize_t sizehint)
    cpdef buffer_updated(self, Py_ssize_t nbytes)

@cython.final
cdef class Network:
    cdef object _transport
    cdef int _descriptor
    cdef bint _queued
    cdef bint _encrypts
    cdef readonly bint never_delivers

    @cython.locals(sent=Py_ssize_t)
    cpdef write(self, bytes data)
    @cython.locals(sent=Py_ssize_t)
    cpdef write_parts(self, list parts)
    cpdef Py_ssize_t backlog(self) except -1
    cpdef release_idle_memory(self)
    cpdef close(self)
    cdef bint _is_clear(self)
