import cython

from ..net.iteration cimport Flushable, Iteration
from ..net.network cimport Network
from ..wire.protocol cimport Protocol

cdef Py_ssize_t FLUSH_SIZE, COPY_BELOW, BURST

cdef class Outbox(Flushable):
    cdef object _loop
    cdef readonly Iteration iteration
    cdef Py_ssize_t _iteration_number
    cdef Protocol _protocol
    cdef public Network network
    cdef object _hub
    cdef list _frames
    cdef Py_ssize_t _size
    cdef Py_ssize_t _max_backlog
    cdef Py_ssize_t _flush_size
    cdef bint _batching
    cdef bint _bursting
    cdef readonly bint paused
    cdef public bint exempt
    cdef readonly long long written
    cdef dict _drained

    cpdef bint is_foreign(self) except -1
    cpdef check_thread(self, str call)
    cpdef check_await(self, str call)
    cpdef put(self, bytes frame)
    cpdef put_parts(self, bytes header, bytes payload)
    cpdef put_control(self, bytes frame)
    @cython.locals(protocol=Protocol, due=list, frame=bytes)
    cpdef put_due(self)
    cpdef begin_batch(self)
    cpdef end_batch(self)
    cpdef end_iteration(self)
    @cython.locals(frames=list, size=Py_ssize_t)
    cpdef flush(self)
    @cython.locals(network=Network, backlog=Py_ssize_t)
    cdef _write(self, bytes data)
    @cython.locals(network=Network, backlog=Py_ssize_t)
    cdef _write_parts(self, list parts, Py_ssize_t size)
    @cython.locals(backlog=Py_ssize_t)
    cpdef bint accepts(self, Py_ssize_t queued) except -1
    @cython.locals(backlog=Py_ssize_t)
    cdef Py_ssize_t _excess(self, Py_ssize_t queued) except -1
    cdef _fail(self, Py_ssize_t backlog)
    cpdef bint must_wait(self) except -1
    cpdef pause(self)
    cpdef resume(self)
    cpdef close(self)
