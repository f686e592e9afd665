import cython

from .deflate cimport DeflatedFrame
from .payload cimport Payload, Utf8Check, rotate_key, unmask, unmask_into

cdef unsigned int _CONTINUATION, _TEXT, _BINARY, _RSV1

@cython.final
cdef class PartialFrame:
    cdef Payload _payload
    cdef unsigned int _key
    cdef Utf8Check _utf8
    cdef const unsigned char *_lent
    cdef Py_ssize_t _lent_start
    cdef Py_ssize_t _lent_end
    cdef public bint lending
    cdef readonly bint active
    cdef readonly unsigned int opcode
    cdef readonly bint fin
    cdef readonly unsigned long long length
    cdef readonly unsigned long long missing
    cdef readonly unsigned long long released
    cdef readonly unsigned int message
    cdef readonly bint compressed
    cdef readonly unsigned long long received

    cpdef bint in_data_frame(self) noexcept
    cpdef bint in_message(self) noexcept
    cpdef bint in_fragmented(self) noexcept

    cdef begin(self, unsigned int first, unsigned long long length, unsigned int key)
    @cython.locals(payload=Payload, size=Py_ssize_t, offset="unsigned long long", before=Py_ssize_t)
    cdef append(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(payload=Payload)
    cdef bytes finish(self)
    cdef add_fragment(self, unsigned int opcode, bytes payload)
    cdef end_text(self)
    cdef drop(self)
    cdef bint _is_binary(self) noexcept

    @cython.locals(lent=Py_ssize_t)
    cpdef Py_ssize_t buffered(self) noexcept
    @cython.locals(size=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t, key="unsigned int")
    cpdef bytes release(self)
    cpdef object release_compressed(self)
    @cython.locals(size=Py_ssize_t, start=Py_ssize_t)
    cpdef Py_ssize_t release_into(self, target) except -1
    @cython.locals(payload=Payload, expected="unsigned long long")
    cpdef keep(self)
    cdef unsigned int _lent_key(self) noexcept
