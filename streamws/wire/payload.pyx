# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The same as `payload.py`, in C, with the same documentation."""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

from ..about import PLAIN

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Compile a function for AVX2 too, and let the loader choose the version for this processor. */
    #if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__)
    #define SW_CLONES __attribute__((target_clones("avx2", "default")))
    #else
    #define SW_CLONES
    #endif

    /* The four bytes of the key, twice, in the order of the wire on machines of either byte order. */
    static inline uint64_t sw_spread(uint32_t key) {
        unsigned char bytes[8];
        uint64_t wide;
        int i;
        for (i = 0; i < 8; i++) bytes[i] = (unsigned char)(key >> (8 * (i & 3)));
        memcpy(&wide, bytes, 8);
        return wide;
    }

    /* dst = src ^ key. Returns the OR of all words written: if no byte of it has its high bit set, all are ASCII. */
    SW_CLONES
    static uint64_t sw_xor_long(unsigned char *dst, const unsigned char *src, Py_ssize_t n, uint64_t wide) {
        uint64_t seen = 0, a;
        Py_ssize_t i, words = n / 8;
        for (i = 0; i < words; i++) {
            memcpy(&a, src + 8 * i, 8);
            a ^= wide;
            memcpy(dst + 8 * i, &a, 8);
            seen |= a;
        }
        return seen;
    }

    /* The same without the check for ASCII, and for buffers that do not overlap: a third faster if the data is in the
       processor's cache. The inner loop of fixed length lets the compiler use wide registers. */
    SW_CLONES
    static void sw_mask_long(unsigned char *__restrict dst, const unsigned char *__restrict src, Py_ssize_t n,
                             uint64_t wide) {
        uint64_t a;
        Py_ssize_t i = 0, j;
        for (; i + 128 <= n; i += 128) {
            for (j = i; j < i + 128; j += 8) {
                memcpy(&a, src + j, 8);
                a ^= wide;
                memcpy(dst + j, &a, 8);
            }
        }
        for (; i + 8 <= n; i += 8) {
            memcpy(&a, src + i, 8);
            a ^= wide;
            memcpy(dst + i, &a, 8);
        }
    }

    /* dst = src ^ key, for any length. */
    static inline void sw_mask(unsigned char *dst, const unsigned char *src, Py_ssize_t n, uint32_t key) {
        uint64_t wide = sw_spread(key), a;
        Py_ssize_t i = n & ~(Py_ssize_t)7, j;
        if (n >= 128) {
            sw_mask_long(dst, src, n, wide);
        } else {
            for (j = 0; j < i; j += 8) {
                memcpy(&a, src + j, 8);
                a ^= wide;
                memcpy(dst + j, &a, 8);
            }
        }
        for (; i < n; i++) dst[i] = src[i] ^ (unsigned char)(key >> (8 * (i & 3)));
    }

    /* The same; returns 0 if all bytes written are ASCII. */
    static inline int sw_xor(unsigned char *dst, const unsigned char *src, Py_ssize_t n, uint32_t key) {
        uint64_t wide = sw_spread(key), seen = 0, a;
        Py_ssize_t i = n & ~(Py_ssize_t)7;
        unsigned char tail = 0, byte;
        if (n >= 128) {
            seen = sw_xor_long(dst, src, n, wide);
        } else {
            Py_ssize_t j;
            for (j = 0; j < i; j += 8) {
                memcpy(&a, src + j, 8);
                a ^= wide;
                memcpy(dst + j, &a, 8);
                seen |= a;
            }
        }
        for (; i < n; i++) {
            byte = src[i] ^ (unsigned char)(key >> (8 * (i & 3)));
            dst[i] = byte;
            tail |= byte;
        }
        return ((seen & 0x8080808080808080ULL) != 0) | (tail >> 7);
    }

    /* Returns a number of bytes, a multiple of eight, that are ASCII at the start of the data. */
    static inline Py_ssize_t sw_ascii_prefix(const unsigned char *src, Py_ssize_t n) {
        Py_ssize_t i = 0;
        uint64_t a, b, c, d;
        while (i + 32 <= n) {
            memcpy(&a, src + i, 8); memcpy(&b, src + i + 8, 8);
            memcpy(&c, src + i + 16, 8); memcpy(&d, src + i + 24, 8);
            if ((a | b | c | d) & 0x8080808080808080ULL) break;
            i += 32;
        }
        while (i + 8 <= n) {
            memcpy(&a, src + i, 8);
            if (a & 0x8080808080808080ULL) break;
            i += 8;
        }
        return i;
    }

    /* A state machine for UTF-8 (RFC 3629 section 4). State 0 is between two characters. Inside a character, the state
       holds the number of missing continuation bytes (bits 0-7), and the range of values allowed for the next one: from
       bits 8-15 to bits 16-23. */
    #define SW_BAD 0xFFFFFFFFu
    static uint32_t sw_utf8(uint32_t state, const unsigned char *src, Py_ssize_t n) {
        Py_ssize_t i = 0;
        while (i < n) {
            unsigned char byte;
            if (state == 0) {
                i += sw_ascii_prefix(src + i, n - i);
                if (i >= n) break;
                byte = src[i++];
                if (byte < 0x80) continue;
                if (byte < 0xC2) return SW_BAD;
                else if (byte < 0xE0) state = 1 | 0x80 << 8 | 0xBF << 16;
                else if (byte == 0xE0) state = 2 | 0xA0 << 8 | 0xBF << 16;
                else if (byte == 0xED) state = 2 | 0x80 << 8 | 0x9F << 16;
                else if (byte < 0xF0) state = 2 | 0x80 << 8 | 0xBF << 16;
                else if (byte == 0xF0) state = 3 | 0x90 << 8 | 0xBF << 16;
                else if (byte < 0xF4) state = 3 | 0x80 << 8 | 0xBF << 16;
                else if (byte == 0xF4) state = 3 | 0x80 << 8 | 0x8F << 16;
                else return SW_BAD;
            } else {
                byte = src[i++];
                if (byte < ((state >> 8) & 0xFF) || byte > ((state >> 16) & 0xFF)) return SW_BAD;
                state = (state & 0xFF) - 1;
                if (state) state |= 0x80 << 8 | 0xBF << 16;
            }
        }
        return state;
    }

    static inline Py_ssize_t sw_header_size(uint64_t length, uint32_t key) {
        return (length < 126 ? 2 : length < 65536 ? 4 : 10) + (key ? 4 : 0);
    }

    static inline unsigned char *sw_write_header(unsigned char *out, unsigned char first, uint64_t length,
                                                 uint32_t key) {
        unsigned char masked = key ? 0x80 : 0;
        int i;
        *out++ = first;
        if (length < 126) {
            *out++ = masked | (unsigned char)length;
        } else if (length < 65536) {
            *out++ = masked | 126;
            *out++ = (unsigned char)(length >> 8);
            *out++ = (unsigned char)length;
        } else {
            *out++ = masked | 127;
            for (i = 56; i >= 0; i -= 8) *out++ = (unsigned char)(length >> i);
        }
        if (key) for (i = 0; i < 32; i += 8) *out++ = (unsigned char)(key >> i);
        return out;
    }

    """
    int sw_xor(unsigned char *dst, const unsigned char *src, Py_ssize_t n, unsigned int key) noexcept nogil
    void sw_mask(unsigned char *dst, const unsigned char *src, Py_ssize_t n, unsigned int key) noexcept nogil
    unsigned int SW_BAD
    unsigned int sw_utf8(unsigned int state, const unsigned char *src, Py_ssize_t n) noexcept nogil
    Py_ssize_t sw_header_size(unsigned long long length, unsigned int key) noexcept nogil
    unsigned char *sw_write_header(unsigned char *out, unsigned char first, unsigned long long length,
                                   unsigned int key) noexcept nogil

cdef extern from "internals.h":
    bint sw_can_resize()
    int sw_resize(PyObject **obj, Py_ssize_t size, bint in_place) except -1

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object o)
    bint PyUnicode_IS_COMPACT_ASCII(object o)
    Py_ssize_t PyUnicode_GET_LENGTH(object o)
    object PyUnicode_DecodeUTF8(const char *s, Py_ssize_t size, const char *errors)


# Whether `_PyBytes_Resize` may be used; otherwise the bytes are copied.
cdef bint _resizes = not PLAIN and sw_can_resize()


cpdef bytes unmask(const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key):
    cdef bytes result
    if key == 0:
        return PyBytes_FromStringAndSize(<const char *>data + start, end - start)
    result = PyBytes_FromStringAndSize(NULL, end - start)
    if end > start:
        sw_mask(<unsigned char *>PyBytes_AS_STRING(result), data + start, end - start, key)
    return result


cpdef unmask_into(object target, const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key):
    cdef Py_buffer view
    PyObject_GetBuffer(target, &view, PyBUF_WRITABLE)
    try:
        if view.len < end - start:
            raise ValueError("the buffer is too small")
        if key:
            sw_mask(<unsigned char *>view.buf, data + start, end - start, key)
        else:
            memcpy(view.buf, data + start, end - start)
    finally:
        PyBuffer_Release(&view)


cpdef unsigned int rotate_key(unsigned int key, unsigned long long offset) noexcept:
    cdef unsigned int shift = 8 * (offset & 3)
    return key if shift == 0 else (key >> shift) | (key << (32 - shift))


cdef class WideText:
    def __init__(self, text, Py_ssize_t size):
        self.text = text
        self.size = size


cpdef object unmask_text(const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key):
    cdef Py_ssize_t size = end - start
    cdef object text
    cdef WideText wide
    if size == 0:
        return ""
    # Unmask directly into a new ASCII `str`. If the bytes turn out not to be ASCII, they are decoded from there.
    text = PyUnicode_New(size, 127)
    if sw_xor(<unsigned char *>PyUnicode_DATA(text), data + start, size, key) == 0:
        return text
    # Decode the whole payload, not only the bytes after the ASCII ones: a `UnicodeDecodeError` shows them.
    wide = WideText.__new__(WideText)
    wide.text = PyUnicode_DecodeUTF8(<const char *>PyUnicode_DATA(text), size, NULL)
    wide.size = size
    return wide


cdef class Payload:
    def __cinit__(self):
        self._data = None
        self._capacity = 0
        self.size = 0

    cpdef append(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t end, unsigned int key,
                 unsigned long long expected):
        cdef Py_ssize_t needed = self.size + (end - start)
        cdef Py_ssize_t capacity
        cdef PyObject *grown
        cdef unsigned char *place
        if needed > self._capacity:
            capacity = 2 * needed
            if <unsigned long long>capacity >= expected:
                capacity = max(<Py_ssize_t>expected, needed)
            elif self._data is None:
                # At first, allocate no more than has arrived of a long frame: a stream reader takes each piece before
                # the next one arrives.
                capacity = needed
            if self._data is None:
                self._data = PyBytes_FromStringAndSize(NULL, capacity)
            else:
                # `_PyBytes_Resize` needs the only reference to the object.
                grown = <PyObject *>self._data
                Py_INCREF(self._data)
                self._data = None
                sw_resize(&grown, capacity, _resizes)
                self._data = <bytes>grown
                Py_DECREF(self._data)
            self._capacity = capacity
        if end > start:
            place = <unsigned char *>PyBytes_AS_STRING(self._data) + self.size
            if key:
                sw_mask(place, data + start, end - start, key)
            else:
                memcpy(place, data + start, end - start)
        self.size = needed

    cpdef bint check_text(self, Utf8Check check, Py_ssize_t start):
        return self._data is None or check.feed(<const unsigned char *>PyBytes_AS_STRING(self._data), start, self.size)

    cpdef bytes take(self):
        cdef bytes data = self._data
        cdef Py_ssize_t size = self.size
        cdef PyObject *shrunk
        if data is None:
            return b""
        self._data = None
        self.size = 0
        if size == self._capacity:
            self._capacity = 0
            return data
        self._capacity = 0
        # Give unused memory back. `_PyBytes_Resize` needs the only reference to the object.
        shrunk = <PyObject *>data
        Py_INCREF(data)
        data = None
        sw_resize(&shrunk, size, _resizes)
        data = <bytes>shrunk
        Py_DECREF(data)
        return data


cdef class Utf8Check:
    def __cinit__(self):
        self._state = 0

    cpdef bint feed(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t end):
        if self._state != SW_BAD:
            self._state = sw_utf8(self._state, data + start, end - start)
        return self._state != SW_BAD

    cpdef Utf8Check copy(self):
        cdef Utf8Check other = Utf8Check()
        other._state = self._state
        return other

    cpdef bint complete(self):
        cdef bint whole = self._state == 0
        self._state = 0
        return whole


cdef enum:
    KEYS_AT_ONCE = 1024


cdef class MaskKeys:
    def __cinit__(self):
        self._keys = b""
        self._position = 0

    cpdef unsigned int next(self) except? 0:
        cdef const unsigned char *place
        cdef unsigned int key
        while True:
            if self._position == PyBytes_GET_SIZE(self._keys):
                self._keys = os.urandom(4 * KEYS_AT_ONCE)
                self._position = 0
            place = <const unsigned char *>PyBytes_AS_STRING(self._keys) + self._position
            self._position += 4
            key = place[0] | place[1] << 8 | place[2] << 16 | <unsigned int>place[3] << 24
            if key:
                return key


cpdef bytes encode_header(unsigned char first, unsigned long long length, unsigned int key):
    cdef bytes header = PyBytes_FromStringAndSize(NULL, sw_header_size(length, key))
    sw_write_header(<unsigned char *>PyBytes_AS_STRING(header), first, length, key)
    return header


cdef inline bytes _encode(unsigned char first, const unsigned char *payload, Py_ssize_t length, unsigned int key):
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, sw_header_size(length, key) + length)
    cdef unsigned char *out = sw_write_header(<unsigned char *>PyBytes_AS_STRING(frame), first, length, key)
    if key:
        sw_mask(out, payload, length, key)
    else:
        memcpy(out, payload, length)
    return frame


cpdef bytes encode_frame(unsigned char first, object data, unsigned int key):
    cdef Py_buffer view
    cdef bytes encoded
    if type(data) is bytes:
        return _encode(first, <const unsigned char *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), key)
    if isinstance(data, str):
        if PyUnicode_IS_COMPACT_ASCII(data):
            return _encode(first, <const unsigned char *>PyUnicode_DATA(data), PyUnicode_GET_LENGTH(data), key)
        encoded = (<str>data).encode()
        return _encode(first, <const unsigned char *>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded), key)
    if isinstance(data, memoryview) and not data.c_contiguous:
        encoded = data.tobytes()
        return _encode(first, <const unsigned char *>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded), key)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return _encode(first, <const unsigned char *>view.buf, view.len, key)
    finally:
        PyBuffer_Release(&view)
