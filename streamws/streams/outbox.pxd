import cython

from ..net.iteration cimport Flushable, Iteration
from ..net.network cimport Network
from ..wire.protocol cimport Protocol

cdef Py_ssize_t FLUSH_SIZE, COPY_BELOW, BURST

cdef class TotalBacklog:
    cdef object _limit
    cdef dict _held
    cdef long long _total

    @cython.locals(held=Py_ssize_t)
    cpdef count(self, Outbox outbox)
    cpdef discard(self, Outbox outbox)

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
    cdef TotalBacklog _total
    cdef Py_ssize_t _owned
    cdef Py_ssize_t _flush_size
    cdef bint _batching
    cdef bint _bursting
    cdef bint _slow
    cdef public long long messages
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
    cdef _write_control(self, list frames)
    @cython.locals(network=Network)
    cpdef Py_ssize_t backlog(self) except -1
    cpdef Py_ssize_t gathered(self) except -1
    cpdef begin_batch(self)
    cpdef end_batch(self)
    cpdef end_iteration(self)
    @cython.locals(frames=list, size=Py_ssize_t)
    cpdef flush(self)
    @cython.locals(network=Network, paused=bint, backlog=Py_ssize_t)
    cdef _write(self, bytes data)
    @cython.locals(network=Network, paused=bint, backlog=Py_ssize_t)
    cdef _write_parts(self, list parts, Py_ssize_t size)
    @cython.locals(backlog=Py_ssize_t)
    cpdef bint accepts(self, Py_ssize_t queued) except -1
    @cython.locals(backlog=Py_ssize_t)
    cdef Py_ssize_t _excess(self, Py_ssize_t queued) except -1
    cdef _check_backlog(self, Py_ssize_t backlog, Py_ssize_t size)
    cpdef check_slow(self, Py_ssize_t queued)
    cpdef share(self, Py_ssize_t size)
    @cython.locals(backlog=Py_ssize_t)
    cpdef Py_ssize_t held(self) except -1
    cpdef drop(self)
    cdef _fail(self, Py_ssize_t backlog, str limit=*)
    cpdef bint must_wait(self) except -1
    cpdef pause(self)
    cpdef resume(self)
    cpdef close(self)
