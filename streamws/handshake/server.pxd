cdef bint _has_token(bytes value, bytes token) except -1
cdef bint _is_page_of(bytes origin, bytes host) except -1
