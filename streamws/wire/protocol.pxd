import cython

from .deflate cimport Deflater
from .payload cimport MaskKeys, Utf8Check, encode_frame, encode_header, rotate_key, unmask
from .parser cimport Parser

cdef Py_ssize_t LARGE, _MASKED_IN_CHUNKS
cdef unsigned char _FIN, _FIN_TEXT, _FIN_BINARY, _FIN_PONG, _RSV1

@cython.final
cdef class Protocol:
    cdef readonly Parser parser
    cdef readonly Deflater deflater
    cdef bint _compressing
    cdef readonly object state
    cdef readonly bint open
    cdef readonly bint failed
    cdef readonly long long received
    cdef readonly list control
    cdef public list due
    cdef public list pings
    cdef public list pongs
    cdef readonly object close_received
    cdef readonly object close_sent
    cdef MaskKeys _keys
    cdef readonly unsigned int sending
    cdef Utf8Check _text
    cdef readonly unsigned long long unsent
    cdef unsigned long long _frame_length
    cdef unsigned int _frame_key
    cdef object _initiator
    cdef object _cause
    cdef str _detail
    cdef object _outcome

    cpdef change(self, object change)
    @cython.locals(items=list)
    cpdef list receive(self, object data, Py_ssize_t end)
    cdef list _separate(self, list events)
    cdef _queue_pongs(self, list payloads)
    cpdef process_control(self)
    cpdef queue(self, bytes frame)
    @cython.locals(first="unsigned char")
    cpdef bytes message(self, object data)
    @cython.locals(deflater=Deflater)
    cpdef bint compresses(self, object data, object compress) except -1
    @cython.locals(deflater=Deflater, first="unsigned char", deflated=bytes)
    cpdef bytes compressed_message(self, object data)
    cpdef bint is_large(self, object data)
    cpdef bint is_masked_in_chunks(self, object data)
    cpdef bytes unmasked_header(self, bytes payload, bint text)
    cpdef bytes text_message(self, object payload)
    cpdef bytes ping(self, bytes payload)
    cpdef bytes pong(self, bytes payload)

cpdef check_data(object data)
cpdef object unchanging(object data)
cpdef Py_ssize_t size_of(object data) except -1
cpdef object as_bytes(object data)
@cython.locals(check=Utf8Check)
cpdef bint is_utf8(object data) except -1
