cdef bint _has_token(bytes value, bytes token) except -1
