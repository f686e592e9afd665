import cython

from ..gate cimport Gate
from ..network cimport Network, Receiver
from .engine cimport Engine

cdef Py_ssize_t _RECORD
cdef int UPPER
cdef int _HANDSHAKE, _OPEN, _ENDED, _CLOSED

cdef class Tls(Receiver):
    cdef object __weakref__
    cdef Receiver _upper
    cdef object _loop
    cdef object _context
    cdef object _done
    cdef object _timeout
    cdef object _timer
    cdef Engine _engine
    cdef object _encrypted
    cdef object _encrypted_view
    cdef bint _greedy
    cdef int _state
    cdef bint _opened
    cdef object _transport
    cdef Network _network
    cdef Gate _gate
    cdef object _error
    cdef readonly long long overhead

    cpdef object get_buffer(self, Py_ssize_t sizehint)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    @cython.locals(engine=Engine, size=Py_ssize_t)
    cdef _deliver(self)
    @cython.locals(engine=Engine)
    cdef _process_engine(self)
    @cython.locals(engine=Engine)
    cdef _continue_handshake(self)
    @cython.locals(encrypted=bytes)
    cpdef write(self, object data)
    cdef bint _encrypt(self, object data) except -1
    cpdef bint is_closing(self) except -1
