import cython

from .deflate cimport DeflatedFrame
from .partial cimport PartialFrame
from .payload cimport WideText, unmask, unmask_text

cdef unsigned int _CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _RSV1

@cython.final
cdef class Parser:
    cdef unsigned int _mask_bit
    cdef bytes _partial_header
    cdef bint _stopped
    cdef readonly PartialFrame frame
    cdef public bint deflate
    cdef readonly bint has_control

    @cython.locals(b="const unsigned char *", pos=Py_ssize_t)
    cpdef list feed(self, object data, Py_ssize_t end)
    cpdef stop(self)

    @cython.locals(earlier=bytes, header=bytes, b="const unsigned char *", more=Py_ssize_t, size=Py_ssize_t,
                   need=Py_ssize_t, pos=Py_ssize_t)
    cdef Py_ssize_t _complete_header(self, const unsigned char *data, Py_ssize_t end, list events) except -1

    @cython.locals(length="unsigned int", size=Py_ssize_t)
    cdef Py_ssize_t _header_size(self, unsigned int second) noexcept

    @cython.locals(b="const unsigned char *", frame=PartialFrame, first="unsigned int", second="unsigned int",
                   length="unsigned long long", start=Py_ssize_t, stop=Py_ssize_t, key="unsigned int",
                   i="unsigned int", opcode="unsigned int", payload=bytes)
    cdef Py_ssize_t _receive_frame(self, const unsigned char *data, Py_ssize_t pos, Py_ssize_t end,
                                   list events) except -1

    @cython.locals(opcode="unsigned int", allowed="unsigned int")
    cdef _check(self, unsigned int first, unsigned int second)

    @cython.locals(frame=PartialFrame, stop=Py_ssize_t, payload=bytes)
    cdef Py_ssize_t _receive_payload(self, const unsigned char *data, Py_ssize_t pos, Py_ssize_t end,
                                     list events) except -1

    @cython.locals(frame=PartialFrame, message="unsigned int")
    cdef _complete(self, unsigned int opcode, bint fin, bytes payload, list events)

    cdef _append_text(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key,
                      list events)
    cdef _control(self, unsigned int opcode, bytes payload, list events)
