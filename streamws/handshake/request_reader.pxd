import cython

cdef class RequestReader:
    cdef object _limits
    cdef object _link
    cdef object _lines
    cdef tuple _line
    cdef Py_ssize_t _line_end
    cdef bint _complete
    cdef readonly dict fields
    cdef readonly bytes rest

    @cython.locals(end=Py_ssize_t, lines=Py_ssize_t)
    cdef Py_ssize_t _whole_head(self, bytes data) except -1
    cdef object _parse(self, bytes head)
    cdef object _request(self, tuple line, bytes wire)
    cdef tuple _read_request_line(self, object lines)

@cython.locals(fields=dict, line=bytes, name=bytes, lower=bytes, value=bytes, repeated=dict, values=list)
cdef dict _parse_fields(bytes wire, bytes version)
