# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `operation.py`, in C. See there for what each class does."""

from cpython.exc cimport PyErr_SetObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from *:
    """
    /* Raise an exception without the traceback entries that a raise in Cython adds. */
    static inline int sw_raise(PyObject *error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        return -1;
    }

    /* The await protocol without exceptions: task -> am_send -> poll. */
    static void sw_set_am_send(PyObject *type, sendfunc send, iternextfunc next) {
        ((PyTypeObject *)type)->tp_as_async->am_send = send;
        ((PyTypeObject *)type)->tp_iternext = next;
    }
    """
    int sw_raise(object error) except -1
    ctypedef int (*sendfunc)(PyObject *, PyObject *, PyObject **) except -1
    ctypedef PyObject *(*iternextfunc)(PyObject *) except? NULL
    void sw_set_am_send(object type, sendfunc send, iternextfunc next)

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


cdef class _Pending:
    def __repr__(self):
        return "PENDING"


cdef class _Failed:
    def __repr__(self):
        return "FAILED"


PENDING = _Pending()
FAILED = _Failed()
# So that plain Python sees them too.
globals().update(PENDING=PENDING, FAILED=FAILED)


cpdef bint run_in(context, callback, argument) except -1:
    try:
        PyContext_Enter(context)
    except RuntimeError:
        return False
    try:
        callback(argument)
    finally:
        PyContext_Exit(context)
    return True


cdef class Operation:
    cpdef object poll(self):
        raise NotImplementedError

    cpdef abandon(self):
        pass

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        # Tasks use the slots set below; this serves subclasses made by a class statement in plain Python.
        return self.send(None)

    def send(self, value):
        cdef PyObject *result
        cdef object held
        cdef int how = _operation_send(<PyObject *>self, NULL, &result)
        held = <object>result
        Py_DECREF(held)
        if how == 1:
            return held
        raise StopIteration(held)

    def throw(self, typ, val=None, tb=None):
        self.finished = True
        self.abandon()
        _raise(typ, val, tb)

    def close(self):
        if not self.finished:
            self.finished = True
            self.abandon()


cdef _raise(typ, val, tb):
    if val is None:
        val = typ() if isinstance(typ, type) else typ
    if tb is not None:
        val = val.with_traceback(tb)
    raise val


# PySendResult of the C API: 0 return, 1 next, -1 error.
cdef int _operation_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    cdef Operation operation = <Operation>self
    cdef object outcome, future
    result[0] = NULL
    if operation.finished:
        raise RuntimeError("cannot reuse already awaited coroutine")
    try:
        outcome = operation.poll()
    except BaseException:
        operation.finished = True
        raise
    if outcome is PENDING:
        future = operation.future
        future._asyncio_future_blocking = True
        Py_INCREF(future)
        result[0] = <PyObject *>future
        return 1
    operation.finished = True
    if outcome is FAILED:
        return sw_raise(operation.error)
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return 0


# A Cython `raise StopIteration` costs several times what this does.
cdef PyObject *_operation_next(PyObject *self) except? NULL:
    cdef PyObject *result = NULL
    if _operation_send(self, NULL, &result) == 1:
        return result
    return _stop(result)


cdef PyObject *_stop(PyObject *value) except? NULL:
    cdef object held = <object>value
    Py_DECREF(held)
    if isinstance(held, (tuple, BaseException)):
        # PyErr_SetObject would unpack the one and raise the other.
        held = StopIteration(held)
    PyErr_SetObject(StopIteration, held)
    return NULL


sw_set_am_send(Operation, _operation_send, _operation_next)


cdef class Done(Operation):
    def __init__(self, value):
        self.value = value

    cpdef object poll(self):
        return self.value

    def __await__(self):
        return self

    def __next__(self):
        raise StopIteration(self.value)

    def send(self, value):
        raise StopIteration(self.value)

    def throw(self, typ, val=None, tb=None):
        _raise(typ, val, tb)

    def close(self):
        pass


cdef int _done_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    cdef object outcome = (<Done>self).value
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return 0


cdef PyObject *_done_next(PyObject *self) except? NULL:
    cdef object outcome = (<Done>self).value
    Py_INCREF(outcome)
    return _stop(<PyObject *>outcome)


sw_set_am_send(Done, _done_send, _done_next)
