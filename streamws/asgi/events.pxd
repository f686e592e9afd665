import cython

from ..awaiting.operation cimport PENDING, Done
from ..streams.inbox cimport Inbox, Read
from ..streams.outbox cimport Outbox
from ..streams.reads cimport ReadMessage, begin
from ..streams.writer cimport Writer

cdef class ReceiveEvent(ReadMessage):
    cdef public Events events
    @cython.locals(events=Events, read=Read)
    cpdef object poll(self)
    @cython.locals(events=Events)
    cpdef abandon(self)

cdef class Events:
    cdef public object loop
    cdef Inbox _inbox
    cdef Outbox _outbox
    cdef Writer _writer
    cdef public object waiting
    cdef public object turn
    cdef public bint told
    @cython.locals(inbox=Inbox, read=ReceiveEvent)
    cpdef object receive(self)
    @cython.locals(outbox=Outbox, writer=Writer)
    cpdef object send(self, object message)
    cpdef object line_up(self)
    cpdef wake_next(self)
