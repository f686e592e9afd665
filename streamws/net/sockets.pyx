# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `sockets.py`, in C, with the same documentation.

MSG_DONTWAIT and MSG_NOSIGNAL make a call safe even if the socket blocks, or if the peer has closed the connection.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

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

cdef extern from "Python.h":
    Py_buffer *PyMemoryView_GET_BUFFER(object view)


cpdef Py_ssize_t send_now(int descriptor, bytes data) except -1:
    return sw_send(descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cpdef Py_ssize_t send_parts_now(int descriptor, list parts, Py_ssize_t first, Py_ssize_t start) except -1:
    return sw_send_parts(descriptor, parts, first, start)


cpdef Py_ssize_t receive_now(int descriptor, object buffer) except -2:
    if type(buffer) is not memoryview:
        raise TypeError(f"buffer must be a memoryview, not {buffer!r}")
    cdef Py_buffer *view = PyMemoryView_GET_BUFFER(buffer)
    return sw_receive(descriptor, <char *>view.buf, view.len)
