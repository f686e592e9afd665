import cython

from ..awaiting.operation cimport FAILED, PENDING
from ..wire.deflate cimport DeflatedFrame
from ..wire.payload cimport WideText
from .inbox cimport Inbox, Read
from .inflation cimport Inflation
from .queue cimport Queue, as_frame, counted_size, item_size

cdef object DataFrame, FRAMES

cdef class ReadMessage(Read):
    @cython.locals(inbox=Inbox, queue=Queue)
    cpdef object take(self)
    @cython.locals(inbox=Inbox)
    cdef object _wait(self)
    @cython.locals(inbox=Inbox, counted=Py_ssize_t, frames=Py_ssize_t)
    cdef object _join(self)
    @cython.locals(inbox=Inbox, queue=Queue)
    cdef object _take_inflated(self, Inflation inflation)
    @cython.locals(inbox=Inbox, queue=Queue, inflation=Inflation)
    cpdef bint is_ready(self) except -1
    cpdef bint needs_whole(self) noexcept

cdef class ReadMessageOfType(ReadMessage):
    cdef object kind
    cpdef object poll(self)

cdef class ReadFrame(Read):
    cpdef claim(self)
    @cython.locals(inbox=Inbox, queue=Queue, size=Py_ssize_t)
    cpdef object take(self)
    cpdef bint is_ready(self) except -1
    cpdef bint needs_whole(self) noexcept

cpdef begin(Read read, Inbox inbox, bint iterating, object owner)
@cython.locals(read=ReadMessage)
cpdef ReadMessage whole_message(Inbox inbox, bint iterating=*)
@cython.locals(read=ReadMessageOfType)
cpdef ReadMessageOfType message_of_type(Inbox inbox, object kind)
@cython.locals(read=ReadFrame)
cpdef ReadFrame next_frame(Inbox inbox, bint iterating=*)
