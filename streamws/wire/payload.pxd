cimport cython

# Functions with `const unsigned char *` parameters can be called from Python with bytes or bytearray.

@cython.final
cdef class WideText:
    cdef readonly str text
    cdef readonly Py_ssize_t size

cpdef bytes unmask(const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key)
cpdef unmask_into(object target, const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key)
cpdef object unmask_text(const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key)
cpdef unsigned int rotate_key(unsigned int key, unsigned long long offset) noexcept

cdef class Utf8Check


@cython.final
cdef class Payload:
    cdef bytes _data
    cdef Py_ssize_t _capacity
    cdef readonly Py_ssize_t size
    cpdef append(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key,
                 unsigned long long expected)
    cpdef bint check_text(self, Utf8Check check, Py_ssize_t start)
    cpdef bytes take(self)

@cython.final
cdef class Utf8Check:
    cdef unsigned int _state
    cpdef bint feed(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t end)
    cpdef Utf8Check copy(self)
    cpdef bint complete(self)

@cython.final
cdef class MaskKeys:
    cdef bytes _keys
    cdef Py_ssize_t _position
    cpdef unsigned int next(self) except? 0

cpdef bytes encode_header(unsigned char first, unsigned long long length, unsigned int key)
cpdef bytes encode_frame(unsigned char first, object data, unsigned int key)
