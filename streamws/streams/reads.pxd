import cython

from ..awaiting.operation cimport PENDING
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

cdef class ReadFrame(Read):
    cpdef claim(self)
    @cython.locals(inbox=Inbox, queue=Queue, size=Py_ssize_t)
    cpdef object take(self)
    cpdef bint is_ready(self) except -1
    cpdef bint needs_whole(self) noexcept

cdef class BeginMessage(Read):
    cpdef claim(self)
    @cython.locals(inbox=Inbox)
    cpdef object take(self)
    cpdef bint is_ready(self) except -1
    cpdef bint is_cut_by(self, object outcome) except -1

cdef class AwaitMore(Read):
    cpdef object take(self)
    cpdef bint is_ready(self) except -1
    cpdef bint is_stream(self) noexcept
    cpdef bint is_cut_by(self, object outcome) except -1

cdef _set(Read read, Inbox inbox, bint iterating, object owner)
@cython.locals(read=ReadMessage)
cpdef ReadMessage whole_message(Inbox inbox, bint iterating=*, object owner=*)
@cython.locals(read=ReadFrame)
cpdef ReadFrame next_frame(Inbox inbox, bint iterating=*)
@cython.locals(read=BeginMessage)
cpdef BeginMessage begin_message(Inbox inbox, object owner)
@cython.locals(read=AwaitMore)
cpdef AwaitMore await_more(Inbox inbox, object owner)
