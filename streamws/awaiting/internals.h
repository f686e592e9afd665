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

/* `tp_alloc` and `tp_free`: let new objects take the memory of freed ones, without the allocator. -------------------

   Each message needs up to three objects for a short time. Cython can do the same (`freelist`), but only for classes
   without a base class. */

#define SW_POOLS 4
#define SW_KEPT 16 /* the most freed objects of a type */

typedef struct {
    PyTypeObject *type;
    int count;
    void *freed[SW_KEPT];
} sw_pool;

static sw_pool sw_pools[SW_POOLS];
static int sw_pools_used = 0;

static inline PyObject *sw_alloc_in(sw_pool *pool, PyTypeObject *type, Py_ssize_t items) {
    PyObject *object;
    if (pool->count == 0 || type != pool->type) return PyType_GenericAlloc(type, items); /* subclasses inherit this */
    object = (PyObject *)pool->freed[--pool->count];
    memset(object, 0, (size_t)type->tp_basicsize);
    (void)PyObject_Init(object, type);
    PyObject_GC_Track(object);
    return object;
}

static inline void sw_free_in(sw_pool *pool, void *object) {
    if (pool->count < SW_KEPT && Py_TYPE((PyObject *)object) == pool->type) {
        pool->freed[pool->count++] = object;
    } else {
        PyObject_GC_Del(object);
    }
}

#define SW_POOL(number)                                                           \
    static PyObject *sw_alloc_##number(PyTypeObject *type, Py_ssize_t items) {    \
        return sw_alloc_in(&sw_pools[number], type, items);                       \
    }                                                                             \
    static void sw_free_##number(void *object) { sw_free_in(&sw_pools[number], object); }

SW_POOL(0)
SW_POOL(1)
SW_POOL(2)
SW_POOL(3)

/* Return whether the memory of freed objects of a type is used again from now on. */
static int sw_reuse_freed(PyObject *kind) {
    static const allocfunc allocs[] = {sw_alloc_0, sw_alloc_1, sw_alloc_2, sw_alloc_3};
    static const freefunc frees[] = {sw_free_0, sw_free_1, sw_free_2, sw_free_3};
    PyTypeObject *type = (PyTypeObject *)kind;
#if defined(Py_GIL_DISABLED) || defined(__SANITIZE_ADDRESS__) /* no lock; and a use after the end must be found */
    return 0;
#endif
    if (sw_pools_used == SW_POOLS || !PyType_IS_GC(type) || PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
        || type->tp_itemsize != 0 || type->tp_finalize != NULL || type->tp_del != NULL) {
        return 0;
    }
    sw_pools[sw_pools_used].type = type;
    type->tp_alloc = allocs[sw_pools_used];
    type->tp_free = frees[sw_pools_used];
    sw_pools_used++;
    return 1;
}

/* The layout of `_asyncio.Future`: the callback that wakes the task which awaits it. -------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *loop;
    PyObject *callback; /* the first one */
    PyObject *context;
    PyObject *callbacks; /* a list of the others */
} sw_future;

static PyTypeObject *sw_future_type = NULL; /* NULL if the check has failed */

static inline int sw_has_more_callbacks(sw_future *future) {
    PyObject *more = future->callbacks;
    return more != NULL && more != Py_None && !(PyList_CheckExact(more) && PyList_GET_SIZE(more) == 0);
}

/* Return the number of callbacks, 2 for two and more; -1 if the object is not of the known type. */
static inline int sw_count_callbacks(PyObject *object) {
    sw_future *future = (sw_future *)object;
    if (Py_TYPE(object) != sw_future_type) return -1;
    return (future->callback != NULL) + 2 * sw_has_more_callbacks(future);
}

/* Remove the first callback and its context, and pass the references to them on. */
static inline void sw_take_callback(PyObject *object, PyObject **callback, PyObject **context) {
    sw_future *future = (sw_future *)object;
    *callback = future->callback;
    *context = future->context;
    future->callback = future->context = NULL;
}

/* The check: whether a future with this one callback has the layout. `empty` is a future of the same type without any. */
static int sw_check_futures(PyObject *future, PyObject *callback, PyObject *context, PyObject *empty) {
    sw_future *known = (sw_future *)future, *other = (sw_future *)empty;
    if (Py_TYPE(future) != Py_TYPE(empty) || Py_TYPE(future)->tp_basicsize < (Py_ssize_t)sizeof(sw_future)) return 0;
    if (known->callback != callback || known->context != context || sw_has_more_callbacks(known)) return 0;
    if (other->callback != NULL || other->context != NULL || sw_has_more_callbacks(other)) return 0;
    if (known->loop != other->loop) return 0;
    sw_future_type = Py_TYPE(future);
    return 1;
}

/* Raise an exception object as it is. */
static inline int sw_raise(PyObject *error) {
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    return -1;
}

/* The layout of `StopIteration`: raise it for a result without a new exception object. ----------------------------- */

/* Python 3.12 to 3.14 call `tp_iternext`, not `am_send`, when a coroutine awaits an object. A result then needs a
   StopIteration. Creating one costs more than anything else that an awaited message costs. So one instance is used again
   and again while the caller says so (`sw_keep_stop`), under conditions that keep the reuse invisible. */
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED) && !defined(PYPY_VERSION)
#define SW_REUSES_STOP 1
#else
#define SW_REUSES_STOP 0
#endif

static PyObject *sw_kept_stop = NULL;
static int sw_stop_may_be_kept = 0;
static PyTypeObject *sw_kept_type = NULL;

/* Return whether nobody else has the kept instance, and nobody has changed it. A traceback, for example, is added
   whenever the exception passes through a frame of Python code. */
static inline int sw_stop_is_unused(PyObject *stop) {
    PyBaseExceptionObject *error = (PyBaseExceptionObject *)stop;
    return Py_REFCNT(stop) == 1 && error->traceback == NULL && error->context == NULL && error->cause == NULL &&
           error->notes == NULL && error->dict == NULL && PyTuple_CheckExact(error->args) &&
           PyTuple_GET_SIZE(error->args) == 0;
}

/* End an iteration with `value`, whose reference is stolen; always return NULL. */
static PyObject *sw_stop(PyObject *value) {
    PyObject *stop;
    if (value == Py_None) {
        Py_DECREF(value);
        return NULL; /* NULL without an exception is the end of an iteration, with None as its value */
    }
#if SW_REUSES_STOP
    /* Only objects without a finalizer are kept, and dicts: the events of ASGI. The application may put an object with a
       finalizer into a dict; it runs when nothing of the kept instance is being changed. */
    if (sw_stop_may_be_kept && (PyUnicode_CheckExact(value) || PyBytes_CheckExact(value) || PyDict_CheckExact(value) ||
                                Py_TYPE(value) == sw_kept_type)) {
        PyObject *before;
        stop = sw_kept_stop;
        if (stop == NULL || !sw_stop_is_unused(stop)) {
            stop = PyObject_CallNoArgs(PyExc_StopIteration);
            if (stop == NULL) {
                Py_DECREF(value);
                return NULL;
            }
            before = sw_kept_stop;
            sw_kept_stop = stop;
            Py_XDECREF(before);
        }
        /* With this second reference, a finalizer that ends another await does not use the same instance. */
        Py_INCREF(stop);
        before = ((PyStopIterationObject *)stop)->value;
        ((PyStopIterationObject *)stop)->value = value;
        Py_XDECREF(before);
        PyErr_SetRaisedException(stop);
        return NULL;
    }
#endif
    /* Not `PyErr_SetObject(PyExc_StopIteration, value)`, which would unpack a tuple and raise an exception. */
    stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if (stop != NULL) sw_raise(stop);
    Py_XDECREF(stop);
    return NULL;
}

/* Let the objects of one more type be handed over like text and bytes. It is never freed: a module defines it. */
static inline void sw_keep_type(PyObject *type) { sw_kept_type = (PyTypeObject *)type; }

/* Say whether results may be handed over by the kept instance. Afterwards it holds no result. */
static inline void sw_keep_stop(int may_be_kept) {
    PyObject *before;
    sw_stop_may_be_kept = may_be_kept;
    if (sw_kept_stop == NULL) return;
    if (Py_REFCNT(sw_kept_stop) == 1) {
        before = ((PyStopIterationObject *)sw_kept_stop)->value;
        ((PyStopIterationObject *)sw_kept_stop)->value = NULL;
    } else { /* a tracer, for example, holds it: leave it to that */
        before = sw_kept_stop;
        sw_kept_stop = NULL;
    }
    Py_XDECREF(before);
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
