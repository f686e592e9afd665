# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `sockets.py`, in C, with the same documentation.

MSG_DONTWAIT and MSG_NOSIGNAL make a call safe even if the socket blocks, or if the peer has closed the connection.
"""

import os
import select
import socket
import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from *:
    """
    #include <string.h>

    /* sw_send and sw_send_parts return 0 after an error: the transport will get the same error when it writes the
       bytes. On Windows they do nothing, because `Network` always writes through the transport there. */
    #ifdef _WIN32
    static inline Py_ssize_t sw_send(int fd, const char *data, Py_ssize_t size) { return 0; }
    static inline Py_ssize_t sw_send_parts(int fd, PyObject *parts) { return 0; }
    static inline Py_ssize_t sw_receive(int fd, char *place, Py_ssize_t room) { return -1; }
    #else
    #include <errno.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static inline Py_ssize_t sw_send(int fd, const char *data, Py_ssize_t size) {
        Py_ssize_t sent = send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        return sent < 0 ? 0 : sent;
    }
    static Py_ssize_t sw_send_parts(int fd, PyObject *parts) {
        struct iovec vector[64];
        struct msghdr message;
        Py_ssize_t sent, i, count = PyList_GET_SIZE(parts);
        if (count > 64) count = 64;
        for (i = 0; i < count; i++) {
            PyObject *part = PyList_GET_ITEM(parts, i);
            if (!PyBytes_Check(part)) break;
            vector[i].iov_base = PyBytes_AS_STRING(part);
            vector[i].iov_len = (size_t)PyBytes_GET_SIZE(part);
        }
        memset(&message, 0, sizeof message);
        message.msg_iov = vector;
        message.msg_iovlen = i;
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        return sent < 0 ? 0 : sent;
    }
    static Py_ssize_t sw_receive(int fd, char *place, Py_ssize_t room) {
        Py_ssize_t count = recv(fd, place, (size_t)room, MSG_DONTWAIT);
        if (count >= 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return count;
        PyErr_SetFromErrno(PyExc_OSError);
        return -2;
    }
    #endif
    """
    Py_ssize_t sw_send(int fd, const char *data, Py_ssize_t size)
    Py_ssize_t sw_send_parts(int fd, object parts)
    Py_ssize_t sw_receive(int fd, char *place, Py_ssize_t room) except -2

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/epoll.h>
    #include <unistd.h>
    static inline int sw_process(void) { return (int)getpid(); }
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
    static inline int sw_process(void) { return 0; }
    static inline int sw_epoll_create(void) { errno = ENOSYS; return -1; }
    static inline int sw_epoll_change(int poll, int how, int fd, unsigned int generation, unsigned int events) {
        return 0;
    }
    static inline int sw_epoll_wait(int poll, unsigned long long *data, unsigned int *masks) { return 0; }
    #define SW_ACCEPTS 0
    #endif

    /* Return what `accept_now` returns. Without accept4, the caller uses the socket module. */
    static PyObject *sw_accepted(int fd) {
    #if SW_ACCEPTS
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        int accepted = sw_accept(fd, (struct sockaddr *)&address, &size);
        if (accepted < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) Py_RETURN_NONE;
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
    int EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    bint SW_ACCEPTS
    int sw_process()
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


cdef _change(Epoll epoll, int how, int descriptor, unsigned int generation, unsigned int events):
    if sw_process() == epoll._process and sw_epoll_change(epoll._descriptor, how, descriptor, generation, events) < 0:
        PyErr_SetFromErrno(OSError)


cdef class Epoll:
    def __cinit__(self):
        self._descriptor = -1

    def __init__(self):
        self._process = sw_process()
        self._descriptor = sw_epoll_create()
        if self._descriptor < 0:
            PyErr_SetFromErrno(OSError)

    def fileno(self):
        return self._descriptor

    cpdef add(self, int descriptor, unsigned int generation, unsigned int events):
        _change(self, EPOLL_CTL_ADD, descriptor, generation, events)

    cpdef modify(self, int descriptor, unsigned int generation, unsigned int events):
        _change(self, EPOLL_CTL_MOD, descriptor, generation, events)

    cpdef remove(self, int descriptor):
        _change(self, EPOLL_CTL_DEL, descriptor, 0, 0)

    cpdef int wait(self) except -1:
        cdef int count
        if sw_process() != self._process:
            return 0
        count = sw_epoll_wait(self._descriptor, self._data, self._masks)
        if count < 0:
            PyErr_SetFromErrno(OSError)
        return count

    cpdef int descriptor(self, int index) noexcept:
        return <int>(self._data[index] & 0xFFFFFFFF)

    cpdef unsigned int generation(self, int index) noexcept:
        return <unsigned int>(self._data[index] >> 32)

    cpdef unsigned int events(self, int index) noexcept:
        return self._masks[index]

    cpdef close(self):
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __dealloc__(self):
        if self._descriptor >= 0 and sw_process() == self._process:
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
        host = socket.inet_ntop(family, accepted[8:24])
        scope = int.from_bytes(accepted[24:28], sys.byteorder)
        if scope:  # of a link-local address
            host += "%" + socket.if_indextoname(scope)
        flow = int.from_bytes(accepted[4:8], "big") & 0xFFFFF
        return host, int.from_bytes(accepted[2:4], "big"), flow, scope
    name = accepted[2:]
    return name if name.startswith(b"\0") else name.split(b"\0")[0].decode(sys.getfilesystemencoding(), "surrogateescape")


cpdef Py_ssize_t send_now(int descriptor, bytes data) except -1:
    return sw_send(descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cpdef Py_ssize_t send_parts_now(int descriptor, list parts) except -1:
    return sw_send_parts(descriptor, parts)


cpdef Py_ssize_t receive_now(int descriptor, object buffer) except -2:
    if type(buffer) is not memoryview:
        raise TypeError(f"buffer must be a memoryview, not {buffer!r}")
    cdef Py_buffer *view = PyMemoryView_GET_BUFFER(buffer)
    return sw_receive(descriptor, <char *>view.buf, view.len)
