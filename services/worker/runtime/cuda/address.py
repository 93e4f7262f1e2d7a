"""The address of a read-only buffer, which ctypes itself gives for writable ones only."""

import ctypes


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer, part of its stable ABI."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of(data: memoryview) -> int:
    """Of the first byte of contiguous bytes; valid for as long as `data` is kept."""
    view = _PyBuffer()
    api = ctypes.pythonapi
    simple = 0  # PyBUF_SIMPLE: contiguous bytes, read-only is enough
    api.PyObject_GetBuffer(ctypes.py_object(data), ctypes.byref(view), simple)
    try:
        return int(view.buf or 0)
    finally:
        api.PyBuffer_Release(ctypes.byref(view))
