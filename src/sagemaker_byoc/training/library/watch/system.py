"""Samples of the system, taken by a thread: for the system rules, and in AWS's lines.

The driver's own library reads GPUs, so no package is needed.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import TypeVar

from sagemaker_byoc.training.library.outputs import append
from sagemaker_byoc.training.library.watch.rules.base import Reading, say_to_log

T = TypeVar("T")

FILE_SECONDS = 60.0
FILE_BYTES = 10 << 20
FLUSH_SECONDS = 5.0
MOST_FILES = 10_080
"""One per minute for a week; then nothing more is written."""
STAT, MEMORY, NETWORK = "/proc/stat", "/proc/meminfo", "/proc/net/dev"


class Meter:
    """Measures the system; each `read` covers the time since the one before."""

    def __init__(self) -> None:
        self._gpus = Gpus()
        self._times: list[tuple[int, int, int]] = []
        self._bytes: tuple[int, int] | None = None
        self._last = time.monotonic()
        self.read()

    def read(self) -> Reading:
        now = time.monotonic()
        elapsed, self._last = max(now - self._last, 1e-9), now
        cpus, waits = self._processors()
        busy, filled = self._gpus.read()
        received, sent = self._network(elapsed)
        return Reading(
            time=time.time(),
            cpus=cpus,
            io_wait=waits,
            gpus=busy,
            gpu_memory=filled,
            memory=_memory_percent(),
            received=received,
            sent=sent,
        )

    def _processors(self) -> tuple[list[float], list[float]]:
        new = [_processor_times(line) for line in _lines(STAT) if _is_processor(line)]
        old, self._times = self._times, new
        busy, waits = [], []
        for (total, idle, wait), (total_0, idle_0, wait_0) in zip(new, old, strict=False):
            passed = max(total - total_0, 1)
            busy.append(100 * (1 - (idle - idle_0 + wait - wait_0) / passed))
            waits.append(100 * (wait - wait_0) / passed)
        return busy, waits

    def _network(self, elapsed: float) -> tuple[float, float]:
        rows = [line.partition(":") for line in _lines(NETWORK)[2:]]
        counts = [rest.split() for name, _, rest in rows if name.strip() != "lo"]
        new = sum(int(row[0]) for row in counts), sum(int(row[8]) for row in counts)
        old, self._bytes = self._bytes or new, new
        return (new[0] - old[0]) / elapsed, (new[1] - old[1]) / elapsed


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _is_processor(line: str) -> bool:
    return line.startswith("cpu") and line[3:4].isdecimal()


def _processor_times(line: str) -> tuple[int, int, int]:
    """Return a processor's times: total, idle, waiting. The user's time includes guests."""
    numbers = [int(word) for word in line.split()[1:9]]
    return sum(numbers), numbers[3], numbers[4]


def _memory_percent() -> float:
    values = {line.partition(":")[0]: line.split()[1] for line in _lines(MEMORY)[:5]}
    total = int(values.get("MemTotal", "0"))
    return 100 * (1 - int(values.get("MemAvailable", "0")) / total) if total else 0.0


class SystemLines:
    """Files in AWS's layout: a new one each minute, or when one is full."""

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder / "system" / "incremental"
        self._node = node
        self._waiting: list[str] = []
        self._path: Path | None = None
        self._began = 0.0
        self._flushed = 0.0
        self._size = 0
        self._files = 0

    def add(self, reading: Reading) -> None:
        self._waiting += [json.dumps(row) + "\n" for row in rows(reading, self._node)]
        if reading.time - self._flushed >= FLUSH_SECONDS:
            self.flush(reading.time)

    def flush(self, now: float) -> None:
        if not self._waiting or self._files > MOST_FILES:
            return
        if self._path is None or now - self._began > FILE_SECONDS or self._size > FILE_BYTES:
            hour = time.strftime("%Y%m%d%H", time.gmtime(now))
            self._path = self._folder / hour / f"{int(now)}.{self._node}.json"
            self._began, self._size, self._files = now, 0, self._files + 1
        data = "".join(self._waiting).encode()
        self._waiting.clear()
        append(self._path, data)
        self._size += len(data)
        self._flushed = now


def rows(reading: Reading, node: str) -> Iterator[dict[str, str | float]]:
    """Yield one row for each number of a reading."""

    def row(kind: str, name: str, dimension: str, value: float) -> dict[str, str | float]:
        return {
            "Type": kind,
            "Name": name,
            "Dimension": dimension,
            "Value": round(value, 3),
            "NodeId": node,
            "Timestamp": round(reading.time, 6),
        }

    def each(
        kind: str, dimension: str, values: Sequence[float]
    ) -> Iterator[dict[str, str | float]]:
        return (
            row(kind, f"{kind}{number}", dimension, value) for number, value in enumerate(values)
        )

    yield from each("cpu", "CPUUtilization", reading.cpus)
    yield from each("cpu", "I/OWaitPercentage", reading.io_wait)
    yield from each("gpu", "GPUUtilization", reading.gpus)
    yield from each("gpu", "GPUMemoryUtilization", reading.gpu_memory)
    yield row("memory", "MemoryUsedPercent", "MemoryUtilization", reading.memory)
    yield row("network", "ReceivedBytesPerSecond", "Algorithm", reading.received)
    yield row("network", "TransmittedBytesPerSecond", "Algorithm", reading.sent)


class Sampler:
    """A thread that takes a reading every `interval_ms`, and passes it to `report`."""

    def __init__(
        self, report: Callable[[Reading], None], lines: SystemLines | None, *, interval_ms: int
    ) -> None:
        self._report = report
        self._lines = lines
        self._seconds = interval_ms / 1000
        self._has_failed = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="byoc-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        meter = Meter()
        while not self._end.wait(self._seconds):
            reading = meter.read()
            if self._lines:
                self._guarded(self._lines.add, reading)
            self._report(reading)
        if self._lines:
            self._guarded(self._lines.flush, time.time())

    def _guarded(self, write: Callable[[T], None], given: T) -> None:
        """Call `write`; log its first error, such as a full disk."""
        try:
            write(given)
        except OSError as error:
            if not self._has_failed:
                say_to_log(f"the system's lines can't be written: {error.strerror}")
            self._has_failed = True


LIBRARY = "libnvidia-ml.so.1"


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Gpus:
    """The GPUs that the driver shows; none without a driver."""

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
        """Return in percent how long each GPU was busy, and how much of its memory is in use."""
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
