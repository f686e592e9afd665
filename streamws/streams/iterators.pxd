import cython

from ..awaiting.operation cimport FAILED, PENDING
from ..wire.deflate cimport DeflatedFrame
from .inbox cimport Inbox, Read
from .reader cimport MessageReader, reader_of
from .reads cimport begin, message_of_type, next_frame, whole_message

cdef object DataFrame, Opcode, _TEXT, _BINARY

@cython.final
cdef class Messages:
    cdef Inbox _inbox
    cdef object _client

@cython.final
cdef class MessagesOfType:
    cdef Inbox _inbox
    cdef object _client
    cdef object _kind

@cython.final
cdef class Frames:
    cdef Inbox _inbox
    cdef object _client

@cython.final
cdef class Readers:
    cdef Inbox _inbox
    cdef object _client
    cdef object _limits

cdef class BeginMessage(Read):
    cdef object limits
    cdef bint polled
    cpdef MessageReader next_ready(self)
    cpdef object poll(self)
    @cython.locals(inbox=Inbox)
    cpdef object take(self)
    cpdef bint is_ready(self) except -1
    cpdef bint is_cut_by(self, object outcome) except -1

@cython.locals(read=BeginMessage)
cpdef BeginMessage begin_message(Inbox inbox, object limits)
