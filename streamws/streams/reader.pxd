import cython

from ..awaiting.operation cimport FAILED, PENDING, Done
from .inbox cimport Inbox, Read
from .reads cimport ReadMessage, begin

cdef object DataFrame, IncompleteReadError, LimitOverrunError, _TEXT, _BINARY, _LEFT

cdef class _ReadWhole
cdef class _ReadPart
cdef class _Read
cdef class _ReadExactly
cdef class _ReadInto
cdef class _ReadUntil

@cython.final
cdef class MessageReader:
    cdef Inbox _inbox
    cdef object _limits
    cdef readonly object type
    cdef readonly object _piece
    cdef Py_ssize_t _position
    cdef unsigned long long _received
    cdef bint _fin
    cdef bint _left

    @cython.locals(read=_Read)
    cpdef object read(self, Py_ssize_t n=*)
    @cython.locals(read=_ReadExactly)
    cpdef object readexactly(self, Py_ssize_t n)
    @cython.locals(read=_ReadInto)
    cpdef object readinto(self, object buffer)
    @cython.locals(read=_ReadUntil)
    cdef object _read_until(self, object separator, bint line)
    cdef object _begin(self, _ReadPart read)
    cpdef bint at_eof(self) except -1
    cpdef leave(self)
    cdef _check(self)
    cdef Py_ssize_t _available(self) except -1
    @cython.locals(start=Py_ssize_t, end=Py_ssize_t)
    cdef bytes _take(self, Py_ssize_t n)
    cdef bint _pull(self) except -1
    cdef _append(self, object piece)
    cdef _count(self, Py_ssize_t size)

@cython.locals(reader=MessageReader)
cpdef MessageReader reader_of(Inbox inbox, object limits, object opcode)

@cython.final
cdef class _Text:
    cdef MessageReader _reader

cdef class _ReadWhole(ReadMessage):
    cdef object kind
    cdef bint waiting
    @cython.locals(reader=MessageReader)
    cpdef object poll(self)

@cython.locals(read=_ReadWhole)
cdef _ReadWhole whole_of(MessageReader reader, object kind)

cdef class _ReadPart(Read):
    cdef bint gave_way
    cdef bint waiting
    cdef object result(self, MessageReader reader)
    @cython.locals(reader=MessageReader)
    cpdef object poll(self)
    cpdef object take(self)
    cpdef bint is_ready(self) except -1
    cpdef bint is_stream(self) noexcept
    cpdef bint is_cut_by(self, object outcome) except -1

cdef class _Read(_ReadPart):
    cdef Py_ssize_t size
    cdef object result(self, MessageReader reader)

cdef class _ReadExactly(_ReadPart):
    cdef Py_ssize_t size
    cdef object result(self, MessageReader reader)

cdef class _ReadInto(_ReadPart):
    cdef object view
    @cython.locals(size=Py_ssize_t, start=Py_ssize_t)
    cdef object result(self, MessageReader reader)

cdef class _ReadUntil(_ReadPart):
    cdef object separator
    cdef bint line
    cdef Py_ssize_t searched
    @cython.locals(available=Py_ssize_t, place=Py_ssize_t, size=Py_ssize_t)
    cdef object result(self, MessageReader reader)

cdef class _NextPiece(_ReadPart):
    cdef object result(self, MessageReader reader)

cdef class _NextText(_ReadPart):
    cdef object result(self, MessageReader reader)
