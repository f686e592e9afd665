import cython

# Module globals that are C values, or at least no look-ups.
cdef Py_ssize_t _OVERHEAD, _SHARE
cdef int _MESSAGE, _FRAME, _BEGINNING, _MORE
cdef object DataFrame
cdef unsigned int _CONTINUATION, _TEXT

cdef class Inbox

from ..wire.deflate cimport DeflatedFrame, Inflater
from ..awaiting.operation cimport FAILED, PENDING, Operation
from ..wire.payload cimport WideText
from ..wire.parser cimport Parser
from ..awaiting.waiter cimport Waiter

cdef class Read(Operation):
    cdef public Inbox inbox
    cdef public int kind
    cdef public bint iterating
    cdef public object owner
    cpdef object poll(self)
    cpdef abandon(self)

@cython.locals(read=Read)
cdef Read _read(Inbox inbox, int kind, bint iterating, object owner)

@cython.final
cdef class Messages:
    cdef Inbox _inbox

@cython.final
cdef class Inbox:
    cdef Parser _parser
    cdef Inflater _inflater
    cdef object _limits
    cdef Py_ssize_t _max_size
    cdef Py_ssize_t _max_inflated
    cdef Py_ssize_t _read_high
    cdef Py_ssize_t _read_low
    cdef object _flow
    cdef list _items
    cdef Py_ssize_t _head
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t _complete
    cdef Py_ssize_t _open_size
    cdef Py_ssize_t _open_frames
    cdef Py_ssize_t _ahead
    cdef Py_ssize_t _ahead_size
    cdef Py_ssize_t _inflated
    cdef bint _giving_way
    cdef object _refused
    cdef Read _reading
    cdef Waiter _waiter
    cdef object _owner
    cdef bint _skipping
    cdef Py_ssize_t _budget
    cdef bint _paused
    cdef bint _passing_over
    cdef bint _ended
    cdef bint _claimed
    cdef bint _discarding
    cdef bint _told

    @cython.locals(size=Py_ssize_t)
    cpdef push(self, list items)
    @cython.locals(reading=Read)
    cpdef wake(self, bint soon)
    cpdef bint is_streamed(self) noexcept
    @cython.locals(reading=Read)
    cpdef check_flow(self)
    cpdef end(self)
    cpdef pass_over(self)
    cpdef unpause(self)
    cdef Py_ssize_t _held(self)
    cdef _discard(self)
    @cython.locals(left=Py_ssize_t)
    cdef _drop_deflated(self, Inflater inflater)
    cdef bint _takes_over(self) except -1
    cdef _fail_skipping(self)
    cdef _clear(self)

    cpdef object poll(self, Read read)
    cpdef abandon(self, Read read)
    cdef object _take(self, Read read)
    cdef _suspend(self, Read read)
    @cython.locals(first=Read)
    cdef _check_free(self, Read read)
    cdef _claim(self, Read read)
    @cython.locals(there=bint)
    cdef bint _is_ready(self, int kind)
    cdef bint _is_exhausted(self)
    cdef bint _is_inflating(self)
    @cython.locals(reading=Read)
    cdef _resume(self)

    @cython.locals(head=Py_ssize_t, items=list, size=Py_ssize_t)
    cdef object _take_message(self)
    @cython.locals(size=Py_ssize_t, frames=Py_ssize_t, last=Py_ssize_t)
    cdef object _join(self)
    @cython.locals(size="unsigned long long", frames="unsigned long long")
    cdef unsigned long long _announced(self) except? 0
    @cython.locals(length="unsigned long long")
    cdef unsigned long long _declared(self) except? 0
    cdef bint _frame_too_big(self)
    cdef bint _in_data_frame(self)
    cdef object _fail(self, object close, object cause)
    cdef object _pop(self)
    @cython.locals(inflater=Inflater, data=bytes)
    cdef object _take_inflated(self, DeflatedFrame frame)
    cdef bint _inflate_open(self) except -1
    @cython.locals(items=list, inflater=Inflater, frame=DeflatedFrame, place=Py_ssize_t, left=Py_ssize_t, data=bytes,
                   growth=Py_ssize_t)
    cdef bint _inflate(self, Py_ssize_t end) except -1
    @cython.locals(inflater=Inflater, data=bytes)
    cdef object _pull_inflated(self, DeflatedFrame frame)
    cdef object _spoil(self, object violation)
    cdef object _take_frame(self)
    cdef object _take_beginning(self, object owner)
    cpdef object pull(self, object owner)
    cpdef Py_ssize_t pull_into(self, object owner, target) except -1
    cdef _check_owner(self, object owner)
    cpdef leave(self, object owner)
    @cython.locals(skipped=Py_ssize_t)
    cdef _skip(self)
    @cython.locals(inflater=Inflater, most=Py_ssize_t, skipped=Py_ssize_t, size=Py_ssize_t)
    cdef Py_ssize_t _skip_there(self) except -1

@cython.locals(least="unsigned long long")
cdef unsigned long long _counted(unsigned long long size, unsigned long long frames) noexcept
cdef Py_ssize_t _size(object item) except -1
