cpdef mark_yielded(object future)
cpdef list callbacks_of(object future)
cpdef object task_of(object callback)
