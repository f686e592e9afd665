import cython

cdef Py_ssize_t _NO_LIMIT

cdef class Inbox

from ..awaiting.operation cimport FAILED, PENDING, Operation
from ..awaiting.waiter cimport Waiter
from ..net.gate cimport Gate
from ..net.iteration cimport Iteration
from ..net.sockets cimport thread_number
from ..wire.deflate cimport DeflatedFrame, Inflater
from ..wire.partial cimport PartialFrame
from ..wire.payload cimport WideText
from ..wire.protocol cimport Protocol
from .inflation cimport Inflation
from .queue cimport Queue, counted_size
from .skipping cimport Skipper

cdef object DataFrame
cdef int UNREAD
cdef Py_ssize_t SHARE

cdef class Read(Operation):
    cdef public Inbox inbox
    cdef public bint iterating
    cdef public object owner
    cpdef object poll(self)
    cpdef abandon(self)
    cpdef claim(self)
    cpdef object take(self)
    cpdef bint is_ready(self) except -1
    cpdef bint needs_whole(self) noexcept
    cpdef bint is_stream(self) noexcept
    cpdef bint is_cut_by(self, object outcome) except -1

@cython.final
cdef class Inbox:
    cdef object _loop
    cdef Iteration _iteration
    cdef Protocol _protocol
    cdef Gate _gate
    cdef object _limits
    cdef object _hub
    cdef Py_ssize_t _read_high
    cdef Py_ssize_t _read_low
    cdef readonly Py_ssize_t max_size
    cdef public Py_ssize_t max_unread
    cdef readonly PartialFrame frame
    cdef readonly Queue queue
    cdef readonly Inflation inflation
    cdef Skipper _skipper
    cdef Waiter _waiter
    cdef Read _reading
    cdef public object owner
    cdef bint _giving_way
    cdef object _refused
    cdef bint _closing
    cdef bint _ended
    cdef bint _ever_read
    cdef bint _discarding
    cdef bint _warned_discard

    cpdef push(self, list items)
    @cython.locals(reading=Read)
    cpdef bint wake(self, bint soon) except -1
    cpdef bint is_streamed(self) noexcept
    @cython.locals(reading=Read)
    cpdef check_high_water(self)
    cpdef end(self)
    cpdef begin_closing(self)
    cdef Py_ssize_t _held(self)
    cdef bint _is_crowded(self) noexcept
    @cython.locals(skipper=Skipper)
    cdef _discard(self)

    @cython.locals(skipper=Skipper)
    cpdef object poll(self, Read read)
    cpdef check_thread(self, str call)
    cpdef bint must_give_way(self) except -1
    cpdef give_way(self, Read read)
    cpdef abandon(self, Read read)
    cdef _suspend(self, Read read)
    @cython.locals(reading=Read)
    cdef _resume(self)
    @cython.locals(first=Read)
    cdef _check_free(self, str call)
    cpdef check_owner(self, object owner)

    @cython.locals(size="unsigned long long", frames="unsigned long long")
    cpdef unsigned long long announced_size(self) except? 0
    @cython.locals(length="unsigned long long")
    cdef unsigned long long _declared_size(self) except? 0
    cpdef bint is_frame_too_big(self) except -1
    cpdef bint in_data_frame(self) noexcept
    cpdef bint has_more(self) noexcept
    cdef bint _is_inflating(self) noexcept

    cpdef object refuse_size(self, object size)
    cpdef object fail_inflation(self)
    cpdef object fail(self, object problem)
    cdef _fail_connection(self, object close, object cause)

    @cython.locals(inflation=Inflation, frame=PartialFrame)
    cpdef object pull(self, object owner)
    cdef object _take_piece(self, Inflation inflation, DeflatedFrame frame)
    cpdef Py_ssize_t pull_into(self, object owner, target) except -1
    cdef check_free_for(self, object owner)
    cpdef leave(self, object owner)
    cdef _skip(self)
    cdef _fail_skipping(self)
