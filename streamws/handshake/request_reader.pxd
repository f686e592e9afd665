import cython

cdef class RequestReader:
    cdef object _limits
    cdef object _lines
    cdef Py_ssize_t _start
    cdef bint _complete
    cdef readonly dict fields
    cdef readonly bytes rest

    cdef object _read_whole(self, bytes data)
    cdef object _parse(self, bytes head)

@cython.locals(fields=dict, line=bytes, name=bytes, lower=bytes, value=bytes)
cdef dict _parse_fields(bytes wire)
