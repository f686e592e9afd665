# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `sockets.py`, in C, with the same documentation.

MSG_DONTWAIT and MSG_NOSIGNAL make a call safe even if the socket blocks, or if the peer has closed the connection.
"""

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

cdef extern from "Python.h":
    Py_buffer *PyMemoryView_GET_BUFFER(object view)


cpdef Py_ssize_t send_now(int descriptor, bytes data) except -1:
    return sw_send(descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cpdef Py_ssize_t send_parts_now(int descriptor, list parts) except -1:
    return sw_send_parts(descriptor, parts)


cpdef Py_ssize_t receive_now(int descriptor, object buffer) except -2:
    if type(buffer) is not memoryview:
        raise TypeError(f"buffer must be a memoryview, not {buffer!r}")
    cdef Py_buffer *view = PyMemoryView_GET_BUFFER(buffer)
    return sw_receive(descriptor, <char *>view.buf, view.len)
