import cython

from .payload cimport Utf8Check

cdef Py_ssize_t _MAX_RECENT, _MIN_EXCESS, _SLICE, _ADDED
cdef unsigned int _CONTINUATION, _TEXT

@cython.final
cdef class DeflatedFrame:
    cdef readonly unsigned int opcode
    cdef readonly bytes payload
    cdef readonly bint fin

@cython.final
cdef class Deflater:
    cdef object _compression
    cdef Py_ssize_t _threshold
    cdef bint _text
    cdef bint _binary
    cdef object _stream
    cdef bint _used
    cdef readonly bint takeover
    cdef readonly int window_bits
    cdef readonly long long compressed
    cdef readonly long long inflated
    cpdef bint should_compress(self, Py_ssize_t size, bint text, object wish) except -1
    cpdef bytes compress(self, object data, bint fin)
    cpdef bytes compress_message(self, object data)
    cpdef count(self, Py_ssize_t inflated, Py_ssize_t compressed)
    cpdef release_idle_memory(self)
    @cython.locals(bits=int)
    cdef object _new_stream(self)
    cdef _recycle(self, object stream)

@cython.final
cdef class Inflater:
    cdef int _window_bits
    cdef readonly bint takeover
    cdef Py_ssize_t _window
    cdef list _recent
    cdef Py_ssize_t _recent_size
    cdef object _stream
    cdef bytes _input
    cdef Py_ssize_t _position
    cdef bint _fin
    cdef bint _empty
    cdef int _final_blocks
    cdef Utf8Check _text
    cdef readonly bint pending
    cdef readonly bint ended
    cdef public bint counting
    cdef readonly long long compressed
    cdef readonly long long inflated
    cpdef feed(self, DeflatedFrame frame)
    @cython.locals(data=bytes, check=Utf8Check)
    cpdef bytes take(self, Py_ssize_t most)
    @cython.locals(size=Py_ssize_t, end=Py_ssize_t)
    cpdef Py_ssize_t skip(self, DeflatedFrame frame, Py_ssize_t most) except -1
    cpdef stop(self)
    @cython.locals(parts=list, part=bytes)
    cdef bytes _inflate(self, Py_ssize_t most)
    @cython.locals(position=Py_ssize_t, size=Py_ssize_t, given=bytes, part=bytes, unused=bytes,
                   used=Py_ssize_t)
    cdef bytes _inflate_slice(self, Py_ssize_t most)
    @cython.locals(payload=Py_ssize_t)
    cdef _count(self, Py_ssize_t position, Py_ssize_t used, Py_ssize_t inflated)
    cdef object _new_stream(self)
    @cython.locals(size=Py_ssize_t)
    cdef _remember(self, bytes part)
    @cython.locals(history=bytes)
    cdef _cut_history(self)
    cdef _end_input(self)
