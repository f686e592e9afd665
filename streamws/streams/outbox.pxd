import cython

cdef Py_ssize_t FLUSH_SIZE, JOIN_SIZE

@cython.final
cdef class Outbox:
    cdef object _loop
    cdef object _turn
    cdef Py_ssize_t _turn_number
    cdef object _write
    cdef object _write_parts
    cdef list _frames
    cdef Py_ssize_t _size
    cdef Py_ssize_t _flush_size
    cdef bint _batching
    cdef readonly bint paused
    cdef public bint exempt
    cdef list _drained
    cpdef put(self, bytes frame)
    cpdef put_parts(self, bytes header, bytes payload)
    cpdef begin_batch(self)
    cpdef end_batch(self)
    @cython.locals(frames=list, size=Py_ssize_t)
    cpdef flush(self)
