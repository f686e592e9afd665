cpdef Py_ssize_t send_now(int descriptor, bytes data) except -1
cpdef Py_ssize_t send_parts_now(int descriptor, list parts, Py_ssize_t first, Py_ssize_t start) except -1
cpdef Py_ssize_t receive_now(int descriptor, object buffer) except -2
