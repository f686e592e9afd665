# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `operation.py`, in C, with the same documentation."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from ..about import PLAIN
from .checks import awaits_to, futures_to_compare
from .internals import RECORDS_AWAITING, YIELDS_FUTURES, add_to_awaited_by, discard_from_awaited_by

cdef extern from "internals.h":
    ctypedef int (*sendfunc)(PyObject *, PyObject *, PyObject **) except -1
    ctypedef PyObject *(*iternextfunc)(PyObject *) except? NULL
    int sw_check_futures(object future, object callback, object context, object empty)
    int sw_count_callbacks(object future)
    int sw_raise(object error) except -1
    PyObject *sw_stop(PyObject *value) noexcept
    void sw_keep_stop(bint may_be_kept) noexcept
    void sw_keep_type(object type) noexcept
    bint sw_reuse_freed(object type) noexcept
    void sw_take_callback(object future, PyObject **callback, PyObject **context)
    void sw_set_slots(object type, sendfunc send, iternextfunc next)

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
# Other modules use `cdef object` variables only through `cimport`. This makes them importable from Python too.
globals().update(PENDING=PENDING, FAILED=FAILED)


cpdef int count_callbacks(future) except -1:
    cdef int count = sw_count_callbacks(future)
    return len(callbacks_of(future)) if count < 0 else count


cpdef bint wake_by(future, argument) except -1:
    cdef PyObject *taken = NULL
    cdef PyObject *its_context = NULL
    cdef object callback, context
    if sw_count_callbacks(future) < 0:
        callback, context = callbacks_of(future)[0]
        future.remove_done_callback(callback)
    else:
        sw_take_callback(future, &taken, &its_context)
        callback = <object>taken
        Py_DECREF(callback)
        context = <object>its_context
        Py_DECREF(context)
    if RECORDS_AWAITING:
        discard_from_awaited_by(future, task_of(callback))
    try:
        PyContext_Enter(context)
    except RuntimeError:
        future.add_done_callback(callback, context=context)
        if RECORDS_AWAITING:
            add_to_awaited_by(future, task_of(callback))
        return False
    try:
        callback(argument)
    finally:
        PyContext_Exit(context)
    return True


cpdef keep_results(bint kept):
    sw_keep_stop(kept)


def keep_results_of(kind):
    sw_keep_type(kind)


def reuse_freed(kind):
    return not PLAIN and sw_reuse_freed(kind)


def raised(typ, val, tb):
    if val is None:
        val = typ() if isinstance(typ, type) else typ
    return val if tb is None else val.with_traceback(tb)


def _drive(Operation operation):
    try:
        while True:
            result = operation.poll()
            if result is FAILED:
                raise operation.error
            if result is not PENDING:
                return result
            try:
                yield from operation.future
            except BaseException:
                operation.abandon()
                raise
    finally:
        operation.finished = True


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
        # Called in the plain way, and for subclasses defined in Python, which do not inherit the slots set below.
        return self.send(None)

    def send(self, value):
        cdef PyObject *result
        cdef object held
        cdef int how
        if not YIELDS_FUTURES:
            if self.finished:
                raise RuntimeError("cannot reuse already awaited coroutine")
            if self._driver is None:
                self._driver = _drive(self)
            return self._driver.send(None)
        how = _operation_send(<PyObject *>self, NULL, &result)
        held = <object>result
        Py_DECREF(held)
        if how == 1:
            return held
        raise StopIteration(held)

    def throw(self, typ, val=None, tb=None):
        error = raised(typ, val, tb)
        if self._driver is not None and not self.finished:
            return self._driver.throw(error)
        self.finished = True
        self.abandon()
        raise error

    def close(self):
        if not self.finished:
            self.finished = True
            driver = self._driver
            if driver is None:
                self.abandon()
            else:
                driver.close()


# A `sendfunc` of the C API. It returns a `PySendResult`: 0 for a return, 1 for a yield, -1 for an exception.
cdef int _operation_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    cdef Operation operation = <Operation>self
    cdef object outcome, future
    result[0] = NULL
    if operation.finished:
        raise RuntimeError("cannot reuse already awaited coroutine")
    operation.finished = True  # also if `poll` raises
    outcome = operation.poll()
    if outcome is PENDING:
        operation.finished = False
        future = operation.future
        mark_yielded(future)
        Py_INCREF(future)
        result[0] = <PyObject *>future
        return 1
    if outcome is FAILED:
        return sw_raise(operation.error)
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return 0


cdef PyObject *_operation_next(PyObject *self) except? NULL:
    cdef PyObject *result = NULL
    if _operation_send(self, NULL, &result) == 1:
        return result
    return NULL if result == NULL else sw_stop(result)


cdef class Done(Operation):
    def __init__(self, value):
        self.value = value

    cpdef object poll(self):
        return self.value

    # Defined again, so that Cython gives this type its own table of async slots, which `sw_set_slots` changes.
    def __await__(self):
        return self

    def __next__(self):
        raise StopIteration(self.value)

    def send(self, value):
        raise StopIteration(self.value)

    def throw(self, typ, val=None, tb=None):
        raise raised(typ, val, tb)

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
    return sw_stop(<PyObject *>outcome)


# The slots are tested on a type that nothing else uses, because they cannot be removed from a type again.
cdef class _Trial(Done):
    def __await__(self):
        return self


cdef bint _slots_work():
    sw_set_slots(_Trial, _done_send, _done_next)
    values = [object(), None, (1, 2), StopIteration(3), "text", b"bytes"]
    sw_keep_stop(True)
    work = all([awaits_to(_Trial(value), value) for value in values])
    sw_keep_stop(False)
    return work


if YIELDS_FUTURES and _slots_work():
    sw_set_slots(Operation, _operation_send, _operation_next)
    sw_set_slots(Done, _done_send, _done_next)

if not PLAIN:
    _future, _callback, _context, _empty = futures_to_compare()
    sw_check_futures(_future, _callback, _context, _empty)
    del _future, _callback, _context, _empty
