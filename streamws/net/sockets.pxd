cpdef Py_ssize_t send_now(int descriptor, bytes data) except -1
cpdef Py_ssize_t send_parts_now(int descriptor, list parts, Py_ssize_t first, Py_ssize_t start) except -1
cpdef Py_ssize_t receive_now(int descriptor, object buffer) except -2

cpdef unsigned long thread_number() noexcept

cdef class Epoll:
    cdef int _forks
    cdef int _descriptor
    cdef unsigned long long _data[64]
    cdef unsigned int _masks[64]

    cpdef bint is_inherited(self) noexcept
    cpdef add(self, int descriptor, unsigned int generation, unsigned int events)
    cpdef modify(self, int descriptor, unsigned int generation, unsigned int events)
    cpdef remove(self, int descriptor)
    cpdef int wait(self) except -1
    cpdef int descriptor(self, int index) noexcept
    cpdef unsigned int generation(self, int index) noexcept
    cpdef unsigned int events(self, int index) noexcept
    cpdef close(self)

cpdef tuple accept_now(object sock, int descriptor)
cpdef Py_ssize_t count_unacknowledged(int descriptor) except -1
