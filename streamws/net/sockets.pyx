# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `sockets.py`, in C, with the same documentation.

MSG_DONTWAIT and MSG_NOSIGNAL make a call safe even if the socket blocks, or if the peer has closed the connection.
"""

import os
import select
import socket
import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pythread cimport PyThread_get_thread_ident

cdef extern from *:
    """
    #include <string.h>

    /* On Windows nothing is written or read here, because `Network` always writes through the transport there. */
    #ifdef _WIN32
    static inline Py_ssize_t sw_send(int fd, const char *data, Py_ssize_t size) { return 0; }
    static inline Py_ssize_t sw_send_parts(int fd, PyObject *parts, Py_ssize_t first, Py_ssize_t start) { return 0; }
    static inline Py_ssize_t sw_receive(int fd, char *place, Py_ssize_t room) { return -1; }
    #else
    #include <errno.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif

    #define SW_VECTOR 64                /* the most buffers of one system call */
    #define SW_SMALL 1024               /* parts up to this size are copied: that costs less than a buffer of their own */
    #define SW_BLOCK (64 * 1024)        /* the most bytes that are copied for one system call */
    #define SW_MOST (512 * 1024)        /* after so many bytes no other system call is made */

    static inline int sw_not_now(void) { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

    static inline Py_ssize_t sw_send(int fd, const char *data, Py_ssize_t size) {
        Py_ssize_t sent = send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) return sent;
        if (sw_not_now()) return 0;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    static Py_ssize_t sw_send_parts(int fd, PyObject *parts, Py_ssize_t first, Py_ssize_t start) {
        static char block[SW_BLOCK];    /* only one thread at a time is here: it holds the GIL */
        struct iovec vector[SW_VECTOR];
        struct msghdr message;
        Py_ssize_t total = 0, count = PyList_GET_SIZE(parts);
        while (first < count && total < SW_MOST) {
            Py_ssize_t sent, size = 0, copied = 0;
            int buffers = 0, copying = 0;
            for (; first < count; first++, start = 0) {
                PyObject *part = PyList_GET_ITEM(parts, first);
                char *data;
                Py_ssize_t length;
                if (PyBytes_Check(part)) {
                    data = PyBytes_AS_STRING(part);
                    length = PyBytes_GET_SIZE(part);
                } else if (PyMemoryView_Check(part)) {
                    data = PyMemoryView_GET_BUFFER(part)->buf;
                    length = PyMemoryView_GET_BUFFER(part)->len;
                } else {
                    PyErr_SetString(PyExc_TypeError, "a part must be bytes or a memoryview");
                    return -1;
                }
                data += start;
                length -= start;
                if (length <= SW_SMALL) {
                    if (copied + length > SW_BLOCK || (!copying && buffers == SW_VECTOR)) break;
                    if (!copying) {
                        vector[buffers].iov_base = block + copied;
                        vector[buffers++].iov_len = 0;
                        copying = 1;
                    }
                    memcpy(block + copied, data, (size_t)length);
                    copied += length;
                    vector[buffers - 1].iov_len += (size_t)length;
                } else {
                    if (buffers == SW_VECTOR) break;
                    vector[buffers].iov_base = data;
                    vector[buffers++].iov_len = (size_t)length;
                    copying = 0;
                }
                size += length;
            }
            if (buffers == 1) {
                sent = send(fd, vector[0].iov_base, vector[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
            } else {
                memset(&message, 0, sizeof message);
                message.msg_iov = vector;
                message.msg_iovlen = buffers;
                sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
            }
            if (sent < 0) {
                if (sw_not_now()) return total;
                PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
            total += sent;
            if (sent < size) return total;
        }
        return total;
    }

    static Py_ssize_t sw_receive(int fd, char *place, Py_ssize_t room) {
        Py_ssize_t count = recv(fd, place, (size_t)room, MSG_DONTWAIT);
        if (count >= 0 || sw_not_now()) return count;
        PyErr_SetFromErrno(PyExc_OSError);
        return -2;
    }
    #endif
    """
    Py_ssize_t sw_send(int fd, const char *data, Py_ssize_t size) except -1
    Py_ssize_t sw_send_parts(int fd, object parts, Py_ssize_t first, Py_ssize_t start) except -1
    Py_ssize_t sw_receive(int fd, char *place, Py_ssize_t room) except -2

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/epoll.h>
    #include <pthread.h>
    /* The number of forks between the first process and this one: comparing it is cheaper than getpid(). */
    static int sw_forks = 0;
    static void sw_forked(void) { sw_forks++; }
    static inline int sw_count_forks(void) { return pthread_atfork(NULL, NULL, sw_forked); }
    static inline int sw_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }
    static inline int sw_epoll_change(int poll, int how, int fd, unsigned int generation, unsigned int events) {
        struct epoll_event event;
        event.events = events;
        event.data.u64 = ((unsigned long long)generation << 32) | (unsigned int)fd;
        return epoll_ctl(poll, how, fd, &event);
    }
    static inline int sw_epoll_wait(int poll, unsigned long long *data, unsigned int *masks) {
        struct epoll_event found[64];
        int i, count = epoll_wait(poll, found, 64, 0);
        if (count < 0) return errno == EINTR ? 0 : -1;
        for (i = 0; i < count; i++) {
            data[i] = found[i].data.u64;
            masks[i] = found[i].events;
        }
        return count;
    }
    static inline int sw_accept(int fd, struct sockaddr *address, socklen_t *size) {
        return accept4(fd, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    #define SW_ACCEPTS 1
    #else
    #define EPOLL_CTL_ADD 0
    #define EPOLL_CTL_MOD 0
    #define EPOLL_CTL_DEL 0
    static int sw_forks = 0;
    static inline int sw_count_forks(void) { return 0; }
    static inline int sw_epoll_create(void) { errno = ENOSYS; return -1; }
    static inline int sw_epoll_change(int poll, int how, int fd, unsigned int generation, unsigned int events) {
        return 0;
    }
    static inline int sw_epoll_wait(int poll, unsigned long long *data, unsigned int *masks) { return 0; }
    #define SW_ACCEPTS 0
    #endif

    #ifdef _WIN32
    static inline Py_ssize_t sw_unacknowledged(int fd) { return 0; }
    #else
    #include <sys/ioctl.h>
    static inline Py_ssize_t sw_unacknowledged(int fd) {
        int size = 0;
    #ifdef TIOCOUTQ
        if (ioctl(fd, TIOCOUTQ, &size) < 0) return 0;
    #endif
        return size;
    }
    #endif

    /* Return what `accept_now` returns. Without accept4, the caller uses the socket module. */
    static PyObject *sw_accepted(int fd) {
    #if SW_ACCEPTS
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        int accepted = sw_accept(fd, (struct sockaddr *)&address, &size);
        if (accepted < 0) {
            if (sw_not_now()) Py_RETURN_NONE;
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (size > (socklen_t)sizeof address) size = sizeof address;
        return Py_BuildValue("iy#", accepted, (char *)&address, (Py_ssize_t)size);
    #else
        (void)fd;
        Py_RETURN_NONE;
    #endif
    }
    """
    Py_ssize_t sw_unacknowledged(int fd)
    int EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    bint SW_ACCEPTS
    int sw_forks
    int sw_count_forks()
    int sw_epoll_create()
    int sw_epoll_change(int poll, int how, int fd, unsigned int generation, unsigned int events)
    int sw_epoll_wait(int poll, unsigned long long *data, unsigned int *masks)
    object sw_accepted(int fd)

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object kind)
    Py_buffer *PyMemoryView_GET_BUFFER(object view)


HAS_EPOLL = hasattr(select, "epoll")
READ = 1
WRITE = 4
BROKEN = 0x18
MAX_EVENTS = 64

if sw_count_forks():
    raise MemoryError("cannot register a function that is called after a fork")


cdef _change(Epoll epoll, int how, int descriptor, unsigned int generation, unsigned int events):
    if not epoll.is_inherited() and sw_epoll_change(epoll._descriptor, how, descriptor, generation, events) < 0:
        PyErr_SetFromErrno(OSError)


cpdef unsigned long thread_number() noexcept:
    return PyThread_get_thread_ident()


cdef class Epoll:
    def __cinit__(self):
        self._descriptor = -1

    def __init__(self):
        self._forks = sw_forks
        self._descriptor = sw_epoll_create()
        if self._descriptor < 0:
            PyErr_SetFromErrno(OSError)

    def fileno(self):
        return self._descriptor

    cpdef bint is_inherited(self) noexcept:
        return sw_forks != self._forks

    cpdef add(self, int descriptor, unsigned int generation, unsigned int events):
        _change(self, EPOLL_CTL_ADD, descriptor, generation, events)

    cpdef modify(self, int descriptor, unsigned int generation, unsigned int events):
        _change(self, EPOLL_CTL_MOD, descriptor, generation, events)

    cpdef remove(self, int descriptor):
        _change(self, EPOLL_CTL_DEL, descriptor, 0, 0)

    cpdef int wait(self) except -1:
        cdef int count
        if self.is_inherited():
            return 0
        count = sw_epoll_wait(self._descriptor, self._data, self._masks)
        if count < 0:
            PyErr_SetFromErrno(OSError)
        return count

    cpdef int descriptor(self, int index) noexcept:
        return <int><unsigned int>self._data[index]

    cpdef unsigned int generation(self, int index) noexcept:
        return <unsigned int>(self._data[index] >> 32)

    cpdef unsigned int events(self, int index) noexcept:
        return self._masks[index]

    cpdef close(self):
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __dealloc__(self):
        if self._descriptor >= 0 and sw_forks == self._forks:
            os.close(self._descriptor)


cpdef tuple accept_now(object sock, int descriptor):
    if SW_ACCEPTS:
        return sw_accepted(descriptor)
    try:
        connection, address = sock.accept()
    except (BlockingIOError, InterruptedError):
        return None
    connection.setblocking(False)
    return connection.detach(), address


def address_of(accepted):
    # The C structure of a socket address begins with its family; port and address are in network byte order.
    if not isinstance(accepted, bytes):
        return accepted
    family = int.from_bytes(accepted[:2], sys.byteorder)
    if family == socket.AF_INET:
        return socket.inet_ntop(family, accepted[4:8]), int.from_bytes(accepted[2:4], "big")
    if family == socket.AF_INET6:
        return (
            socket.inet_ntop(family, accepted[8:24]),
            int.from_bytes(accepted[2:4], "big"),
            int.from_bytes(accepted[4:8], "big"),
            int.from_bytes(accepted[24:28], sys.byteorder),
        )
    name = accepted[2:]
    return name if name.startswith(b"\0") else name.split(b"\0")[0].decode(sys.getfilesystemencoding(), "surrogateescape")


cpdef Py_ssize_t send_now(int descriptor, bytes data) except -1:
    return sw_send(descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cpdef Py_ssize_t send_parts_now(int descriptor, list parts, Py_ssize_t first, Py_ssize_t start) except -1:
    return sw_send_parts(descriptor, parts, first, start)


cpdef Py_ssize_t receive_now(int descriptor, object buffer) except -2:
    if type(buffer) is not memoryview:
        raise TypeError(f"buffer must be a memoryview, not {buffer!r}")
    cdef Py_buffer *view = PyMemoryView_GET_BUFFER(buffer)
    return sw_receive(descriptor, <char *>view.buf, view.len)


cpdef Py_ssize_t count_unacknowledged(int descriptor) except -1:
    return sw_unacknowledged(descriptor)
