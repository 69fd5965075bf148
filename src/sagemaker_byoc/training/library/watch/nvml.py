"""Utilisation and memory of the machine's GPUs, by the driver's own library; no package needed."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint, c_ulonglong, c_void_p

LIBRARY = "libnvidia-ml.so.1"


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Gpus:
    """None of them where there is no driver."""

    def __init__(self) -> None:
        self._handles: list[c_void_p] = []
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError:
            return
        count = c_uint()
        if self._library.nvmlInit_v2() or self._library.nvmlDeviceGetCount_v2(byref(count)):
            return
        for index in range(count.value):
            handle = c_void_p()
            if not self._library.nvmlDeviceGetHandleByIndex_v2(index, byref(handle)):
                self._handles.append(handle)

    def read(self) -> tuple[list[float], list[float]]:
        """Percent of the time that each was busy, and of its memory that is in use."""
        busy: list[float] = []
        filled: list[float] = []
        for handle in self._handles:
            used, memory = _Utilization(), _Memory()
            failed = self._library.nvmlDeviceGetUtilizationRates(handle, byref(used))
            failed = failed or self._library.nvmlDeviceGetMemoryInfo(handle, byref(memory))
            if not failed and memory.total:
                busy.append(float(used.gpu))
                filled.append(100 * memory.used / memory.total)
        return busy, filled
