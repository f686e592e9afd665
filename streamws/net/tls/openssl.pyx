# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `openssl.py`, in C, with an engine that calls the OpenSSL which Python's `ssl` has loaded.

`ssl` makes the connection's object, verifies certificates and performs the handshake as usual. But for each record it
copies the data into a buffer of its own and out of another. Here OpenSSL reads from the receive buffer, and writes into
the `bytes` object that is sent. Nothing is linked: these are the functions that `_ssl` itself uses. If they, or the
layout of the object, are not as expected, the standard library's engine is used.
"""

import os
import ssl

import _ssl

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memset

from ...about import PLAIN
from .engine cimport Engine

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #ifdef _WIN32
    static void *sw_open(const char *path) { return NULL; }
    static void *sw_find(void *library, const char *name) { return NULL; }
    #else
    #include <dlfcn.h>
    /* Only a library that is loaded already: the one that Python's ssl uses. */
    static void *sw_open(const char *path) { return dlopen(path, RTLD_LAZY | RTLD_NOLOAD); }
    static void *sw_find(void *library, const char *name) { return dlsym(library, name); }
    #endif

    /* The buffers that OpenSSL reads from and writes to. */
    typedef struct {
        const char *in;
        const char *in_end;
        PyObject *sealed;   /* bytes object with room for the records being written */
        Py_ssize_t room;
        Py_ssize_t size;
        char *other;        /* records written without such an object, or that did not fit into it */
        Py_ssize_t other_room;
        Py_ssize_t other_size;
    } sw_ends;

    static int (*SSL_read_)(void *, void *, int);
    static int (*SSL_write_)(void *, const void *, int);
    static int (*SSL_shutdown_)(void *);
    static int (*SSL_get_error_)(const void *, int);
    static long (*SSL_ctrl_)(void *, int, long, void *);
    static uint64_t (*SSL_set_options_)(void *, uint64_t);
    static void (*SSL_set_bio_)(void *, void *, void *);
    static void *(*BIO_meth_new_)(int, const char *);
    static int (*BIO_meth_set_read_)(void *, int (*)(void *, char *, int));
    static int (*BIO_meth_set_write_)(void *, int (*)(void *, const char *, int));
    static int (*BIO_meth_set_ctrl_)(void *, long (*)(void *, int, long, void *));
    static int (*BIO_get_new_index_)(void);
    static void *(*BIO_new_)(const void *);
    static void (*BIO_set_data_)(void *, void *);
    static void *(*BIO_get_data_)(void *);
    static void (*BIO_set_init_)(void *, int);
    static void (*BIO_set_flags_)(void *, int);
    static void (*BIO_clear_flags_)(void *, int);
    static int (*BIO_up_ref_)(void *);
    static int (*BIO_free_)(void *);
    static unsigned long (*OpenSSL_version_num_)(void);
    static unsigned long (*ERR_peek_error_)(void);
    static unsigned long (*ERR_peek_last_error_)(void);
    static void (*ERR_clear_error_)(void);
    static const char *(*ERR_reason_error_string_)(unsigned long);

    static void *sw_method;

    static int sw_bio_read(void *bio, char *buffer, int size) {
        sw_ends *ends = (sw_ends *)BIO_get_data_(bio);
        ptrdiff_t rest = ends ? ends->in_end - ends->in : 0;
        BIO_clear_flags_(bio, 0x0f);
        if (rest <= 0) {
            BIO_set_flags_(bio, 0x09);  /* BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY */
            return -1;
        }
        if (size > rest) size = (int)rest;
        memcpy(buffer, ends->in, (size_t)size);
        ends->in += size;
        return size;
    }

    /* Python's ssl calls this too, without the GIL: it must not use the Python API beyond the macro. */
    static int sw_bio_write(void *bio, const char *data, int size) {
        sw_ends *ends = (sw_ends *)BIO_get_data_(bio);
        BIO_clear_flags_(bio, 0x0f);
        if (!ends || size <= 0) return -1;
        if (!ends->other_size && ends->size + size <= ends->room) {
            memcpy(PyBytes_AS_STRING(ends->sealed) + ends->size, data, (size_t)size);
            ends->size += size;
            return size;
        }
        if (ends->other_size + size > ends->other_room) {
            Py_ssize_t room = 2 * ends->other_room + size;
            char *larger = (char *)realloc(ends->other, (size_t)room);
            if (!larger) return -1;
            ends->other = larger;
            ends->other_room = room;
        }
        memcpy(ends->other + ends->other_size, data, (size_t)size);
        ends->other_size += size;
        return size;
    }

    static long sw_bio_ctrl(void *bio, int command, long number, void *pointer) {
        return command == 11;  /* BIO_CTRL_FLUSH */
    }

    #define SW_FIND(name) if (!(*(void **)&name##_ = sw_find(library, #name))) return 0

    static int sw_load(const char *path, unsigned long version) {
        void *library = sw_open(path);
        if (!library) return 0;
        SW_FIND(OpenSSL_version_num);
        if (OpenSSL_version_num_() != version) return 0;  /* not the library that Python's ssl calls */
        SW_FIND(SSL_read); SW_FIND(SSL_write); SW_FIND(SSL_shutdown); SW_FIND(SSL_get_error); SW_FIND(SSL_ctrl); SW_FIND(SSL_set_options);
        SW_FIND(SSL_set_bio);
        SW_FIND(BIO_meth_new); SW_FIND(BIO_meth_set_read); SW_FIND(BIO_meth_set_write); SW_FIND(BIO_meth_set_ctrl);
        SW_FIND(BIO_get_new_index); SW_FIND(BIO_new); SW_FIND(BIO_set_data); SW_FIND(BIO_get_data);
        SW_FIND(BIO_set_init); SW_FIND(BIO_set_flags); SW_FIND(BIO_clear_flags); SW_FIND(BIO_up_ref);
        SW_FIND(BIO_free); SW_FIND(ERR_peek_error); SW_FIND(ERR_peek_last_error); SW_FIND(ERR_clear_error);
        SW_FIND(ERR_reason_error_string);
        sw_method = BIO_meth_new_(BIO_get_new_index_() | 0x0400, "streamws");  /* a source and a sink */
        if (!sw_method) return 0;
        return BIO_meth_set_read_(sw_method, sw_bio_read) && BIO_meth_set_write_(sw_method, sw_bio_write)
            && BIO_meth_set_ctrl_(sw_method, sw_bio_ctrl);
    }

    static void *sw_attach(void *ssl, sw_ends *ends) {
        void *bio = BIO_new_(sw_method);
        if (!bio) return NULL;
        SSL_set_options_(ssl, 1 << 30);  /* SSL_OP_NO_RENEGOTIATION: data could not be sent during one */
        BIO_set_data_(bio, ends);
        BIO_set_init_(bio, 1);
        BIO_up_ref_(bio);  /* the SSL takes one of the references */
        SSL_set_bio_(ssl, bio, bio);
        return bio;
    }

    /* Python makes OpenSSL free its buffers after each record. Keep them while the connection is busy. */
    static void sw_keep_buffers(void *ssl, int keep) {
        SSL_ctrl_(ssl, keep ? 78 : 33, 0x10, NULL);  /* SSL_CTRL_CLEAR_MODE, SSL_CTRL_MODE; SSL_MODE_RELEASE_BUFFERS */
    }

    static void sw_detach(void *bio) {
        BIO_set_data_(bio, NULL);
        BIO_free_(bio);
    }

    static int sw_reserve(sw_ends *ends, Py_ssize_t room) {
        if (ends->sealed) return 0;
        ends->sealed = PyBytes_FromStringAndSize(NULL, room);
        if (!ends->sealed) return -1;
        ends->room = room;
        return 0;
    }

    static void sw_clear(sw_ends *ends) {
        Py_CLEAR(ends->sealed);
        ends->room = ends->size = 0;
        free(ends->other);
        ends->other = NULL;
        ends->other_room = ends->other_size = 0;
    }

    static PyObject *sw_take(sw_ends *ends) {
        PyObject *taken = ends->sealed;
        Py_ssize_t size = ends->size;
        ends->sealed = NULL;
        ends->room = ends->size = 0;
        if (!taken) taken = PyBytes_FromStringAndSize(NULL, ends->other_size);
        else if (_PyBytes_Resize(&taken, size + ends->other_size) < 0) return NULL;
        if (taken && ends->other_size) memcpy(PyBytes_AS_STRING(taken) + size, ends->other, (size_t)ends->other_size);
        if (taken) sw_clear(ends);
        return taken;
    }

    static int sw_read(void *ssl, char *buffer, int room) {
        if (ERR_peek_error_()) ERR_clear_error_();  /* of another connection, which SSL_get_error would report for this one */
        return SSL_read_(ssl, buffer, room);
    }

    static int sw_write(void *ssl, const char *data, int size) {
        if (ERR_peek_error_()) ERR_clear_error_();
        return SSL_write_(ssl, data, size);
    }

    /* Call it once: a second call would read the peer's end, and fail because of pending data. */
    static void sw_shut_down(void *ssl) {
        if (SSL_shutdown_(ssl) < 0) ERR_clear_error_();
    }
    """
    ctypedef struct sw_ends:
        const char *in_ "in"
        const char *in_end
        Py_ssize_t size
        Py_ssize_t other_size

cdef extern from "internals.h":
    bint sw_can_resize()
    void *sw_ssl_of(object connection, object context)

cdef extern from *:
    bint sw_load(const char *path, unsigned long version)
    void *sw_attach(void *handle, sw_ends *ends)
    void sw_detach(void *bio)
    void sw_keep_buffers(void *handle, bint keep)
    int sw_reserve(sw_ends *ends, Py_ssize_t room) except -1
    void sw_clear(sw_ends *ends)
    object sw_take(sw_ends *ends)
    int sw_read(void *handle, char *buffer, int room)
    int sw_write(void *handle, const char *data, int size)
    void sw_shut_down(void *handle)
    int SSL_get_error_(void *handle, int result)
    unsigned long ERR_peek_last_error_()
    void ERR_clear_error_()
    const char *ERR_reason_error_string_(unsigned long code)
    Py_buffer *PyMemoryView_GET_BUFFER(object view)

cdef enum:
    _WANT_READ = 2
    _WANT_WRITE = 3
    _ZERO_RETURN = 6
    _MOST = 1 << 30
    _RECORD = 1 << 14


cdef bint _found = False
if not PLAIN and hasattr(_ssl, "__file__") and sw_can_resize():
    _found = sw_load(os.fsencode(_ssl.__file__), ssl.OPENSSL_VERSION_NUMBER)


cdef object _failure():
    cdef unsigned long code = ERR_peek_last_error_()
    cdef const char *reason = ERR_reason_error_string_(code) if code else NULL
    cdef str text = "the TLS connection failed" if reason == NULL else (<bytes>reason).decode().upper().replace(" ", "_")
    ERR_clear_error_()
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"[SSL: {text}]")
    error.library = "SSL"
    error.reason = text
    return error


@cython.no_gc_clear  # the pointers point into the attributes, which must live as long
cdef class DirectEngine(Engine):
    cdef void *_ssl
    cdef void *_bio
    cdef sw_ends _ends
    cdef object _fed  # holds the bytes to read until they are read
    cdef Py_ssize_t _around  # bytes that encryption adds to a record
    cdef bint _keeps_buffers

    def __cinit__(self):
        memset(&self._ends, 0, sizeof(sw_ends))
        self._around = 128  # more than enough at first

    def __dealloc__(self):
        if self._bio != NULL:
            sw_detach(self._bio)
        sw_clear(&self._ends)

    cdef bint attach(self, context) except -1:
        """Reach the OpenSSL connection behind the object; False if this is not possible."""
        if self._inner is self.object:
            return False
        self._ssl = sw_ssl_of(self._inner, context)
        if self._ssl == NULL:
            return False
        self._bio = sw_attach(self._ssl, &self._ends)
        if self._bio == NULL:
            return False
        self._incoming = self._outgoing = None  # they are not used any more
        return True

    cpdef feed(self, data, Py_ssize_t size):
        # Bytes kept from earlier come first.
        if self._ends.in_ != self._ends.in_end:
            data = self._unread() + memoryview(data)[:size]
            size = len(data)
        self._fed = data
        self._ends.in_ = data
        self._ends.in_end = self._ends.in_ + size

    cdef bytes _unread(self):
        return PyBytes_FromStringAndSize(<char *>self._ends.in_, self._ends.in_end - self._ends.in_)

    cpdef keep(self):
        if self._ends.in_ != self._ends.in_end:
            self._fed = kept = self._unread()
            self._ends.in_ = PyBytes_AS_STRING(kept)
            self._ends.in_end = self._ends.in_ + PyBytes_GET_SIZE(kept)
        else:
            self._fed = None

    cpdef bint continue_handshake(self) except -1:
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    cpdef Py_ssize_t decrypt(self, buffer) except -1:
        if type(buffer) is not memoryview:
            raise TypeError(f"a memoryview is filled, not {buffer!r}")
        cdef Py_buffer *view = PyMemoryView_GET_BUFFER(buffer)
        cdef char *place = <char *>view.buf
        cdef Py_ssize_t size = 0
        cdef int count
        while size < view.len:
            count = sw_read(self._ssl, place + size, <int>min(view.len - size, _MOST))
            if count <= 0:
                self._set_problem(SSL_get_error_(self._ssl, count))
                break
            size += count
            if self._ends.in_ == self._ends.in_end and size < view.len:
                break  # all input is used, and OpenSSL does not read ahead
        if size and not self._keeps_buffers:
            self._keeps_buffers = True
            sw_keep_buffers(self._ssl, True)
        return size

    cdef _set_problem(self, int why):
        if why == _ZERO_RETURN:
            self.ended = True
        elif why != _WANT_READ and why != _WANT_WRITE:
            self.error = _failure()

    cpdef encrypt(self, data):
        cdef Py_buffer view
        cdef Py_ssize_t size = 0, records, around, before = self._ends.size + self._ends.other_size
        cdef int count
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            records = max(1, (view.len + _RECORD - 1) // _RECORD)
            sw_reserve(&self._ends, view.len + records * self._around)
            while size < view.len:
                count = sw_write(self._ssl, <const char *>view.buf + size, <int>min(view.len - size, _MOST))
                if count <= 0:
                    raise _failure()
                size += count
            if size:
                # Reserve just as much next time: giving much of it back would copy all of it.
                around = (self._ends.size + self._ends.other_size - before - size + records - 1) // records
                if around > self._around or around < self._around - 32:
                    self._around = around
        finally:
            PyBuffer_Release(&view)

    cpdef bint has_output(self) except -1:
        return self._ends.size > 0 or self._ends.other_size > 0

    cpdef bytes output(self):
        return sw_take(&self._ends)

    cpdef release_idle_memory(self):
        if self._keeps_buffers:
            self._keeps_buffers = False
            sw_keep_buffers(self._ssl, False)

    cpdef end(self):
        sw_shut_down(self._ssl)


def engine(context, bint server_side, server_hostname):
    cdef DirectEngine direct
    # The methods of an application's own class must be called.
    if _found and context.sslobject_class is ssl.SSLObject:
        direct = DirectEngine(context, server_side, server_hostname)
        if direct.attach(context):
            return direct
    return Engine(context, server_side, server_hostname)
