# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The choice of the engine for a connection, as in `openssl.py`, and a faster engine: `DirectEngine`.

Python's `ssl` creates the connection's object, verifies certificates and performs the handshake as usual. But when it
encrypts and decrypts, it copies all data into one buffer and out of another. With a `DirectEngine`, OpenSSL reads
directly from the receive buffer, and writes directly into the `bytes` object that is sent.

This module is not linked with OpenSSL. It looks up the functions in the library that Python's `_ssl` has loaded. If
they or the layout of an `ssl.SSLObject` are not as expected, `engine` returns the engine of the standard library.
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

    /* Constants of OpenSSL. Its headers may not be installed. */
    #define SW_BIO_TYPE_SOURCE_SINK 0x0400
    #define SW_BIO_FLAGS_RWS 0x07
    #define SW_BIO_FLAGS_READ 0x01
    #define SW_BIO_FLAGS_WRITE 0x02
    #define SW_BIO_FLAGS_SHOULD_RETRY 0x08
    #define SW_BIO_CTRL_FLUSH 11
    #define SW_SSL_CTRL_MODE 33
    #define SW_SSL_CTRL_CLEAR_MODE 78
    #define SW_SSL_MODE_RELEASE_BUFFERS 0x10
    #define SW_SSL_OP_NO_RENEGOTIATION ((uint64_t)1 << 30)

    #ifdef _WIN32
    static void *sw_open(const char *path) { return NULL; }
    static void *sw_find(void *library, const char *name) { return NULL; }
    #else
    #include <dlfcn.h>
    /* RTLD_NOLOAD: find a library only if it is loaded already. */
    static void *sw_open(const char *path) { return dlopen(path, RTLD_LAZY | RTLD_NOLOAD); }
    static void *sw_find(void *library, const char *name) { return dlsym(library, name); }
    #endif

    /* The buffers of one connection that OpenSSL reads from and writes to. */
    typedef struct {
        const char *in;            /* the received bytes that OpenSSL has not read */
        const char *in_end;
        PyObject *records;         /* a bytes object with room for the records that `encrypt` expects; NULL if none */
        Py_ssize_t room;           /* the size of that object */
        Py_ssize_t size;           /* the bytes written into it */
        char *overflow;            /* records that do not fit into it, or are written without it, such as alerts */
        Py_ssize_t overflow_room;
        Py_ssize_t overflow_size;
    } sw_buffers;

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

    /* A BIO is OpenSSL's abstraction of a file. The functions below are a BIO over `sw_buffers`. */
    static int sw_bio_read(void *bio, char *buffer, int size) {
        sw_buffers *buffers = (sw_buffers *)BIO_get_data_(bio);
        ptrdiff_t rest = buffers ? buffers->in_end - buffers->in : 0;
        BIO_clear_flags_(bio, SW_BIO_FLAGS_RWS | SW_BIO_FLAGS_SHOULD_RETRY);
        if (rest <= 0) {
            BIO_set_flags_(bio, SW_BIO_FLAGS_READ | SW_BIO_FLAGS_SHOULD_RETRY);
            return -1;
        }
        if (size > rest) size = (int)rest;
        memcpy(buffer, buffers->in, (size_t)size);
        buffers->in += size;
        return size;
    }

    /* During the handshake, Python's ssl calls this without holding the GIL. PyBytes_AS_STRING is safe, because it only
       computes an address. No other function of the Python API may be called here. */
    static int sw_bio_write(void *bio, const char *data, int size) {
        sw_buffers *buffers = (sw_buffers *)BIO_get_data_(bio);
        BIO_clear_flags_(bio, SW_BIO_FLAGS_RWS | SW_BIO_FLAGS_SHOULD_RETRY);
        if (!buffers) {  /* the engine is gone: without these flags, some versions of Python raise OSError with errno 0 */
            BIO_set_flags_(bio, SW_BIO_FLAGS_WRITE | SW_BIO_FLAGS_SHOULD_RETRY);
            return -1;
        }
        if (size <= 0) return -1;
        if (!buffers->overflow_size && buffers->size + size <= buffers->room) {
            memcpy(PyBytes_AS_STRING(buffers->records) + buffers->size, data, (size_t)size);
            buffers->size += size;
            return size;
        }
        if (buffers->overflow_size + size > buffers->overflow_room) {
            Py_ssize_t room = 2 * buffers->overflow_room + size;
            char *larger = (char *)realloc(buffers->overflow, (size_t)room);
            if (!larger) return -1;
            buffers->overflow = larger;
            buffers->overflow_room = room;
        }
        memcpy(buffers->overflow + buffers->overflow_size, data, (size_t)size);
        buffers->overflow_size += size;
        return size;
    }

    static long sw_bio_ctrl(void *bio, int command, long number, void *pointer) {
        return command == SW_BIO_CTRL_FLUSH;  /* there is nothing to flush: report success */
    }

    #define SW_FIND(name) if (!(*(void **)&name##_ = sw_find(library, #name))) return 0

    static int sw_load(const char *path, unsigned long version) {
        void *library = sw_open(path);
        if (!library) return 0;
        SW_FIND(OpenSSL_version_num);
        if (OpenSSL_version_num_() != version) return 0;  /* another OpenSSL than the one that Python's ssl calls */
        SW_FIND(SSL_read); SW_FIND(SSL_write); SW_FIND(SSL_shutdown); SW_FIND(SSL_get_error); SW_FIND(SSL_ctrl);
        SW_FIND(SSL_set_options); SW_FIND(SSL_set_bio);
        SW_FIND(BIO_meth_new); SW_FIND(BIO_meth_set_read); SW_FIND(BIO_meth_set_write); SW_FIND(BIO_meth_set_ctrl);
        SW_FIND(BIO_get_new_index); SW_FIND(BIO_new); SW_FIND(BIO_set_data); SW_FIND(BIO_get_data);
        SW_FIND(BIO_set_init); SW_FIND(BIO_set_flags); SW_FIND(BIO_clear_flags); SW_FIND(BIO_up_ref);
        SW_FIND(BIO_free); SW_FIND(ERR_peek_error); SW_FIND(ERR_peek_last_error); SW_FIND(ERR_clear_error);
        SW_FIND(ERR_reason_error_string);
        sw_method = BIO_meth_new_(BIO_get_new_index_() | SW_BIO_TYPE_SOURCE_SINK, "streamws");
        if (!sw_method) return 0;
        return BIO_meth_set_read_(sw_method, sw_bio_read) && BIO_meth_set_write_(sw_method, sw_bio_write)
            && BIO_meth_set_ctrl_(sw_method, sw_bio_ctrl);
    }

    /* Make the SSL read from and write to the buffers. Returns the new BIO, of which the caller owns a reference. */
    static void *sw_attach(void *ssl, sw_buffers *buffers) {
        void *bio = BIO_new_(sw_method);
        if (!bio) return NULL;
        SSL_set_options_(ssl, SW_SSL_OP_NO_RENEGOTIATION);  /* during a renegotiation, data could not be sent */
        BIO_set_data_(bio, buffers);
        BIO_set_init_(bio, 1);
        BIO_up_ref_(bio);  /* SSL_set_bio takes one reference for itself */
        SSL_set_bio_(ssl, bio, bio);
        return bio;
    }

    /* Python sets SSL_MODE_RELEASE_BUFFERS, so that OpenSSL frees its own buffers after each record. Keep them while
       the connection is busy. */
    static void sw_keep_buffers(void *ssl, int keep) {
        SSL_ctrl_(ssl, keep ? SW_SSL_CTRL_CLEAR_MODE : SW_SSL_CTRL_MODE, SW_SSL_MODE_RELEASE_BUFFERS, NULL);
    }

    /* The SSL may live longer than the buffers, because it still owns a reference to the BIO. */
    static void sw_detach(void *bio) {
        BIO_set_data_(bio, NULL);
        BIO_free_(bio);
    }

    /* Create the bytes object for the next records, unless there is one. */
    static int sw_reserve(sw_buffers *buffers, Py_ssize_t room) {
        if (buffers->records) return 0;
        buffers->records = PyBytes_FromStringAndSize(NULL, room);
        if (!buffers->records) return -1;
        buffers->room = room;
        return 0;
    }

    static void sw_clear(sw_buffers *buffers) {
        Py_CLEAR(buffers->records);
        buffers->room = buffers->size = 0;
        free(buffers->overflow);
        buffers->overflow = NULL;
        buffers->overflow_room = buffers->overflow_size = 0;
    }

    /* Return all records as one bytes object, and leave the buffers empty. */
    static PyObject *sw_take(sw_buffers *buffers) {
        PyObject *taken = buffers->records;
        Py_ssize_t size = buffers->size;
        buffers->records = NULL;
        buffers->room = buffers->size = 0;
        if (!taken) taken = PyBytes_FromStringAndSize(NULL, buffers->overflow_size);
        else if (_PyBytes_Resize(&taken, size + buffers->overflow_size) < 0) return NULL;
        if (taken && buffers->overflow_size)
            memcpy(PyBytes_AS_STRING(taken) + size, buffers->overflow, (size_t)buffers->overflow_size);
        if (taken) sw_clear(buffers);
        return taken;
    }

    /* sw_read and sw_write first clear old errors of other connections: SSL_get_error would report them for this one. */
    static int sw_read(void *ssl, char *buffer, int room) {
        if (ERR_peek_error_()) ERR_clear_error_();
        return SSL_read_(ssl, buffer, room);
    }

    static int sw_write(void *ssl, const char *data, int size) {
        if (ERR_peek_error_()) ERR_clear_error_();
        return SSL_write_(ssl, data, size);
    }

    /* Send a close_notify alert. Call it once: a second call would look for the peer's close_notify, and fail if there is
       pending data instead. */
    static void sw_shut_down(void *ssl) {
        if (SSL_shutdown_(ssl) < 0) ERR_clear_error_();
    }
    """
    ctypedef struct sw_buffers:
        const char *in_ "in"
        const char *in_end
        Py_ssize_t size
        Py_ssize_t overflow_size

cdef extern from "internals.h":
    bint sw_can_resize()
    void *sw_ssl_of(object connection, object context)

cdef extern from *:
    bint sw_load(const char *path, unsigned long version)
    void *sw_attach(void *handle, sw_buffers *buffers)
    void sw_detach(void *bio)
    void sw_keep_buffers(void *handle, bint keep)
    int sw_reserve(sw_buffers *buffers, Py_ssize_t room) except -1
    void sw_clear(sw_buffers *buffers)
    object sw_take(sw_buffers *buffers)
    int sw_read(void *handle, char *buffer, int room)
    int sw_write(void *handle, const char *data, int size)
    void sw_shut_down(void *handle)
    int SSL_get_error_(void *handle, int result)
    unsigned long ERR_peek_last_error_()
    void ERR_clear_error_()
    const char *ERR_reason_error_string_(unsigned long code)
    Py_buffer *PyMemoryView_GET_BUFFER(object view)

cdef enum:
    # Results of SSL_get_error.
    _WANT_READ = 2
    _WANT_WRITE = 3
    _ZERO_RETURN = 6

    _MAX_CALL = 1 << 30  # the most bytes for one call: OpenSSL takes an int
    _RECORD = 1 << 14  # the most bytes of data in a record (RFC 8446 section 5.1)


# Whether the functions of OpenSSL were found.
cdef bint _found = False
if not PLAIN and hasattr(_ssl, "__file__") and sw_can_resize():
    _found = sw_load(os.fsencode(_ssl.__file__), ssl.OPENSSL_VERSION_NUMBER)


cdef object _failure():
    """Return OpenSSL's last error as an `ssl.SSLError`, like those of Python's ssl."""
    cdef unsigned long code = ERR_peek_last_error_()
    cdef const char *reason = ERR_reason_error_string_(code) if code else NULL
    cdef str text = "the TLS connection failed" if reason == NULL else (<bytes>reason).decode().upper().replace(" ", "_")
    ERR_clear_error_()
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"[SSL: {text}]")
    error.library = "SSL"
    error.reason = text
    return error


@cython.no_gc_clear  # `_ssl` points into the SSL object, an attribute that the garbage collector must not clear first
cdef class DirectEngine(Engine):
    """An engine that calls OpenSSL without the buffers of Python's ssl."""

    cdef void *_ssl
    cdef void *_bio
    cdef sw_buffers _buffers
    cdef object _input_owner  # the object that owns the received bytes, until OpenSSL has read them
    cdef Py_ssize_t _overhead  # the bytes that encryption adds to a record
    cdef bint _keeps_buffers  # whether OpenSSL keeps its buffers after each record

    def __cinit__(self):
        memset(&self._buffers, 0, sizeof(sw_buffers))
        self._overhead = 128  # more than any cipher needs; `encrypt` measures it

    def __dealloc__(self):
        if self._bio != NULL:
            sw_detach(self._bio)
        sw_clear(&self._buffers)

    cdef bint attach(self, context) except -1:
        """Connect OpenSSL to the buffers of this engine; return False if this is not possible."""
        if self._inner is self.ssl_object:
            return False  # it has no C object that is known to be one of Python's ssl
        self._ssl = sw_ssl_of(self._inner, context)
        if self._ssl == NULL:
            return False
        self._bio = sw_attach(self._ssl, &self._buffers)
        if self._bio == NULL:
            return False
        self._incoming = self._outgoing = None  # they are not used any more
        return True

    cpdef feed(self, data, Py_ssize_t size):
        # Bytes that `keep` has copied are still unread: put them before the new ones.
        if self._buffers.in_ != self._buffers.in_end:
            data = self._unread() + memoryview(data)[:size]
            size = len(data)
        self._input_owner = data
        self._buffers.in_ = data
        self._buffers.in_end = self._buffers.in_ + size

    cdef bytes _unread(self):
        return PyBytes_FromStringAndSize(<char *>self._buffers.in_, self._buffers.in_end - self._buffers.in_)

    cpdef keep(self):
        if self._buffers.in_ != self._buffers.in_end:
            self._input_owner = kept = self._unread()
            self._buffers.in_ = PyBytes_AS_STRING(kept)
            self._buffers.in_end = self._buffers.in_ + PyBytes_GET_SIZE(kept)
        else:
            self._input_owner = None

    cpdef bint continue_handshake(self) except -1:
        if self.error is None:
            try:
                self.ssl_object.do_handshake()
                return True
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLError as error:
                self.error = error
        raise self.error.with_traceback(None)

    cpdef Py_ssize_t decrypt(self, buffer) except -1:
        if type(buffer) is not memoryview:
            raise TypeError(f"buffer must be a memoryview, not {buffer!r}")
        cdef Py_buffer *view = PyMemoryView_GET_BUFFER(buffer)
        cdef char *place = <char *>view.buf
        cdef Py_ssize_t size = 0
        cdef int count
        while size < view.len:
            count = sw_read(self._ssl, place + size, <int>min(view.len - size, _MAX_CALL))
            if count <= 0:
                self._process_result(SSL_get_error_(self._ssl, count))
                break
            size += count
            if self._buffers.in_ == self._buffers.in_end and size < view.len:
                break  # all input is used, and OpenSSL holds no data: it does not read ahead
        if size and not self._keeps_buffers:
            self._keeps_buffers = True
            sw_keep_buffers(self._ssl, True)
        return size

    cdef _process_result(self, int result):
        if result == _ZERO_RETURN:
            self.ended = True
        elif result != _WANT_READ and result != _WANT_WRITE:
            self.error = _failure()

    cpdef encrypt(self, data):
        cdef Py_buffer view
        cdef Py_ssize_t size = 0, records, overhead, before = self._buffers.size + self._buffers.overflow_size
        cdef int count
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            records = max(1, (view.len + _RECORD - 1) // _RECORD)
            sw_reserve(&self._buffers, view.len + records * self._overhead)
            while size < view.len:
                count = sw_write(self._ssl, <const char *>view.buf + size, <int>min(view.len - size, _MAX_CALL))
                if count <= 0:
                    raise _failure()
                size += count
            if size:
                # Next time, reserve as much as was needed: to shrink a bytes object by much, CPython copies it.
                overhead = (self._buffers.size + self._buffers.overflow_size - before - size + records - 1) // records
                if overhead > self._overhead or overhead < self._overhead - 32:
                    self._overhead = overhead
        finally:
            PyBuffer_Release(&view)

    cpdef bint has_output(self) except -1:
        return self._buffers.size > 0 or self._buffers.overflow_size > 0

    cpdef bytes output(self):
        return sw_take(&self._buffers)

    cpdef release_idle_memory(self):
        if self._keeps_buffers:
            self._keeps_buffers = False
            sw_keep_buffers(self._ssl, False)

    cpdef end(self):
        sw_shut_down(self._ssl)


def engine(context, bint server_side, server_hostname):
    cdef DirectEngine direct
    # If the application has set its own class, the methods of that class must be called.
    if _found and context.sslobject_class is ssl.SSLObject:
        direct = DirectEngine(context, server_side, server_hostname)
        if direct.attach(context):
            return direct
    return Engine(context, server_side, server_hostname)
