import cython

from .inbox cimport Inbox
from .reads cimport begin_message, next_frame, whole_message

@cython.final
cdef class Messages:
    cdef Inbox _inbox

@cython.final
cdef class Readers:
    cdef Inbox _inbox
    cdef object _limits

@cython.final
cdef class Frames:
    cdef Inbox _inbox

@cython.final
cdef class MessagesOfType:
    cdef Inbox _inbox
    cdef object _kind
