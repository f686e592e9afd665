import cython

from .deflate cimport DeflatedFrame
from .payload cimport Payload, Utf8Check, WideText, rotate_key, unmask, unmask_into, unmask_text

@cython.final
cdef class Parser:
    cdef unsigned int _mask_bit
    cdef bytes _head
    cdef unsigned int _message
    cdef Utf8Check _utf8
    cdef Payload _payload
    cdef unsigned int _key
    cdef unsigned long long _released
    cdef bint _stopped
    cdef public bint lending
    cdef const unsigned char *_lent
    cdef Py_ssize_t _lent_start
    cdef Py_ssize_t _lent_end
    cdef public bint deflate
    cdef readonly bint deflated
    cdef readonly bint settle
    cdef readonly bint in_frame
    cdef readonly unsigned int opcode
    cdef readonly bint fin
    cdef readonly unsigned long long length
    cdef readonly unsigned long long missing
    cdef readonly unsigned long long received

    @cython.locals(b="const unsigned char *", pos=Py_ssize_t)
    cpdef list feed(self, object data, Py_ssize_t end)

    cpdef bint in_data_frame(self) noexcept
    cpdef bint in_message(self) noexcept
    cpdef bint in_fragmented(self) noexcept
    @cython.locals(lent=Py_ssize_t)
    cpdef Py_ssize_t buffered(self) noexcept
    @cython.locals(size=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t, key="unsigned int")
    cpdef bytes release(self)
    cpdef object release_deflated(self)
    @cython.locals(size=Py_ssize_t, start=Py_ssize_t)
    cpdef Py_ssize_t release_into(self, target) except -1
    @cython.locals(payload=Payload, expected="unsigned long long")
    cpdef keep(self)
    cdef unsigned int _lent_key(self) noexcept
    cdef bint _is_binary(self) noexcept
    cpdef stop(self)

    @cython.locals(kept=bytes, head=bytes, b="const unsigned char *", more=Py_ssize_t, size=Py_ssize_t,
                   need=Py_ssize_t, pos=Py_ssize_t)
    cdef Py_ssize_t _complete_head(self, const unsigned char *data, Py_ssize_t end, list events) except -1

    @cython.locals(length="unsigned int", size=Py_ssize_t)
    cdef Py_ssize_t _header_size(self, unsigned int second) noexcept

    @cython.locals(b="const unsigned char *", first="unsigned int", second="unsigned int",
                   length="unsigned long long", start=Py_ssize_t, stop=Py_ssize_t, key="unsigned int",
                   i="unsigned int")
    cdef Py_ssize_t _frame(self, const unsigned char *data, Py_ssize_t pos, Py_ssize_t end, list events) except -1

    @cython.locals(opcode="unsigned int", allowed="unsigned int")
    cdef _check(self, unsigned int first, unsigned int second)

    cdef _begin(self, unsigned int first, unsigned long long length, unsigned int key)

    @cython.locals(payload=Payload, stop=Py_ssize_t, taken=Py_ssize_t, done="unsigned long long", before=Py_ssize_t,
                   whole=bytes)
    cdef Py_ssize_t _go_on(self, const unsigned char *data, Py_ssize_t pos, Py_ssize_t end, list events) except -1

    @cython.locals(message="unsigned int")
    cdef _complete(self, unsigned int opcode, bint fin, bytes payload, bint counted, list events)

    cdef _append_text(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key,
                      list events)
    cdef _end_text(self)
    cdef _control(self, unsigned int opcode, bytes payload, list events)
