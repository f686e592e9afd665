/* The C half of `internals.py`: every use of an internal of CPython that may change without notice.

   Each such function has a check, which the module that includes this file calls once, at import. If the check fails, or
   if STREAMWS_PLAIN is set, that module uses the plain way. */

#ifndef STREAMWS_INTERNALS_H
#define STREAMWS_INTERNALS_H

#include <string.h>

/* `_PyBytes_Resize`: change the size of a bytes object that has no other owner. ------------------------------------ */

/* Like `_PyBytes_Resize`; the plain way copies the object. */
static inline int sw_resize(PyObject **bytes, Py_ssize_t size, int in_place) {
    PyObject *copy;
    Py_ssize_t kept;
    if (in_place) return _PyBytes_Resize(bytes, size);
    copy = PyBytes_FromStringAndSize(NULL, size);
    if (copy != NULL) {
        kept = PyBytes_GET_SIZE(*bytes) < size ? PyBytes_GET_SIZE(*bytes) : size;
        memcpy(PyBytes_AS_STRING(copy), PyBytes_AS_STRING(*bytes), (size_t)kept);
    }
    Py_DECREF(*bytes);
    *bytes = copy;
    return copy == NULL ? -1 : 0;
}

/* The check: whether a resized object keeps its bytes and ends with the NUL byte that CPython relies on. */
static int sw_can_resize(void) {
    PyObject *bytes = PyBytes_FromStringAndSize("abcdef", 6);
    int works;
    if (bytes == NULL || _PyBytes_Resize(&bytes, 3) < 0) {
        PyErr_Clear();
        return 0;
    }
    works = PyBytes_GET_SIZE(bytes) == 3 && memcmp(PyBytes_AS_STRING(bytes), "abc", 4) == 0;
    Py_DECREF(bytes);
    return works;
}

/* `am_send` and `tp_iternext`: await an object without a Python call, and without a StopIteration for its result. --- */

static void sw_set_slots(PyObject *type, sendfunc send, iternextfunc next) {
    ((PyTypeObject *)type)->tp_as_async->am_send = send;
    ((PyTypeObject *)type)->tp_iternext = next;
    PyType_Modified((PyTypeObject *)type);
}

/* Raise an exception without the traceback entry that a raise in Cython adds. */
static inline int sw_raise(PyObject *error) {
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    return -1;
}

/* The layout of `_ssl._SSLSocket`: reach the OpenSSL connection behind an `ssl.SSLObject`. ------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *socket;
    void *ssl;
    PyObject *context;
} sw_ssl_object;

/* Return the `SSL *` of the object. Return NULL unless the fields around it have the expected values: no socket, and the
   context that the object was created with. */
static void *sw_ssl_of(PyObject *object, PyObject *context) {
    sw_ssl_object *known = (sw_ssl_object *)object;
    if (Py_TYPE(object)->tp_basicsize < (Py_ssize_t)sizeof(sw_ssl_object)) return NULL;
    return !known->socket && known->context == context ? known->ssl : NULL;
}

#endif
