"""The process that workers are forked from: whether it can be, and how a copy becomes a worker.

It has loaded and warmed the model and answers no request, so that every copy begins as it is. What
a copy must not share is looked for beforehand: threads, child processes and open descriptors other
than files to read, of which each worker opens its own.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import os
import random
import select
import signal
import stat
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.supervisor.slots import Channel
from sagemaker_byoc.serving.supervisor.workers import FAILED, FORKED
from sagemaker_byoc.serving.worker.code import guard

PROCESS = Path("/proc/self")
DEVICES = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
"""Devices that any number of processes may share."""
SQLITE = b"SQLite format 3\0"
"""First bytes of a file whose connections must not be carried over a fork."""
OPENMP = ("libgomp", "libiomp5", "libomp")
BLAS = ("libopenblas", "libscipy_openblas")
PAUSE_HARD = 2
"""omp_pause_hard of the OpenMP specification, 5.0."""
Seed: TypeAlias = "Callable[[], object]"


class Descriptors:
    """The descriptors that are open; made before the load, it tells what the load has opened."""

    def __init__(self) -> None:
        self._before = dict(_descriptors())

    def opened(self) -> list[int]:
        """Return the descriptors that have been opened since."""
        return [number for number, file in _descriptors() if self._before.get(number) != file]


def _descriptors() -> Iterator[tuple[int, tuple[int, int]]]:
    for name in os.listdir(PROCESS / "fd"):  # noqa: PTH208 - numbers, not paths
        with suppress(OSError):  # that of the folder itself
            found = os.fstat(int(name))
            yield int(name), (found.st_dev, found.st_ino)


# ── whether the process can be forked ──


def obstacle(opened: list[int]) -> str:
    """Return why copies of this process could not work side by side; empty if they can."""
    if _has_children():
        return "the load started processes"
    for number in opened:
        problem = _problem(number)
        if problem:
            return f"the load opened {problem}"
    threads = _threads()
    return f"the load started threads{threads}" if threads else ""


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _problem(number: int) -> str:
    """Return what a descriptor is if processes must not share it."""
    try:
        mode, path = os.fstat(number).st_mode, str((PROCESS / "fd" / str(number)).readlink())
        is_read_only = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    except OSError:
        return f"descriptor {number}"
    is_folder = is_read_only and stat.S_ISDIR(mode)
    if is_folder or (stat.S_ISCHR(mode) and path in DEVICES):
        return ""
    if not stat.S_ISREG(mode) or not is_read_only:
        return f"{path} for writing" if stat.S_ISREG(mode) else path
    try:
        os.close(_opened_again(number))
        is_database = os.pread(number, len(SQLITE), 0) == SQLITE
    except OSError:
        return path
    return f"the database {path}" if is_database else ""


def _opened_again(number: int) -> int:
    """Open a file to read once more, with a position of its own."""
    flags = fcntl.fcntl(number, fcntl.F_GETFL) & ~os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(PROCESS / "fd" / str(number), flags)


def _threads() -> str:
    """Return the names of threads that a copy would lack, after those have ended that end by
    themselves and start again when they are needed."""
    if _count_threads() == 1:
        return ""
    _end_progress_bars()
    for path in _libraries(OPENMP):
        with suppress(OSError, AttributeError):  # older than OpenMP 5.0
            pause = ctypes.CDLL(path).omp_pause_resource_all
            pause.argtypes = [ctypes.c_int]
            pause(PAUSE_HARD)
    if _count_threads() > 1 and threading.active_count() == 1 and _libraries(BLAS):
        _fork_for_nothing()
    if _count_threads() == 1:
        return ""
    names = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
    return f" ({', '.join(names)})"[:200] if names else ""


def _count_threads() -> int:
    return len(os.listdir(PROCESS / "task"))  # noqa: PTH208 - a count, not paths


def _end_progress_bars() -> None:
    """End the threads in which tqdm watches progress bars, those of transformers' load too; the
    next bar starts one again."""
    for thread in threading.enumerate():
        if type(thread).__module__ == "tqdm._monitor":
            guard.attempt(thread.exit)  # type: ignore[attr-defined]


def _libraries(names: tuple[str, ...]) -> list[str]:
    """Return the paths of loaded libraries of these names."""
    try:
        lines = (PROCESS / "maps").read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/" in line}
    return sorted(path for path in paths if Path(path).name.startswith(names))


def _fork_for_nothing() -> None:
    """Let OpenBLAS end its threads, which it does before each fork."""
    copy = _forked()
    if copy == 0:
        os._exit(0)
    if copy is not None:
        _end_of(copy)


# ── the template, and its copies ──


class Template:
    """This process, once it serves only as the origin of workers."""

    def __init__(self, channel: Channel, supervisor: int, opened: list[int]) -> None:
        self._channel = channel
        self._supervisor = supervisor
        self._files = [number for number in opened if stat.S_ISREG(os.fstat(number).st_mode)]

    def wait(self) -> int:
        """Fork a worker whenever the supervisor asks; return in each worker, with its slot."""
        try:
            while True:
                select.select([self._channel], [], [])
                for message in self._channel.receive():
                    slot = int(message["slot"])
                    if self._fork(slot):
                        return slot
                if self._channel.is_closed:
                    guard.stop(signal.SIGTERM, None)  # the supervisor has ended
        except guard.Stop:
            self._keep_finalizers()
            raise

    def _keep_finalizers(self) -> None:
        """Leave the user's exit functions to the workers, which have something to finish, and keep
        what removes temporary folders, which the workers share."""
        atexit._clear()  # noqa: SLF001 - there is no public name
        atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]  # noqa: SLF001

    def _fork(self, slot: int) -> bool:
        """Fork a worker; return whether this is its process.

        It is the child of a process that ends at once, so that the supervisor becomes its parent,
        and it has reported its pid before.
        """
        for stream in (sys.stdout, sys.stderr):
            guard.attempt(_flush, stream)
        seeds = _seeds()
        reader, writer = os.pipe()
        with _signals_blocked():
            middle = _forked()
            if middle == 0:
                _fork_and_end(reader, writer)
                self._become_worker(slot, (reader, writer), seeds)
                return True
            os.close(reader)
            os.close(writer)
            status = 1 if middle is None else _end_of(middle)
        if status:
            self._channel.send(FAILED, slot=slot, why="no further process can be started")
        return False

    def _become_worker(self, slot: int, pipe: tuple[int, int], seeds: list[Seed]) -> None:
        """Become a worker: report, wait for the new parent, and part with what is the template's.

        Whatever fails ends the process: there must not be a second template.
        """
        guard.become_worker()
        failure = guard.attempt(self._report, slot, pipe) or guard.attempt(self._part)
        if failure is not None:
            log.say(f"slot {slot}: a worker can't be forked: {failure.explained}")
            os._exit(ExitCode.INTERNAL)
        for seed in seeds:
            guard.attempt(seed)

    def _report(self, slot: int, pipe: tuple[int, int]) -> None:
        os.setsid()
        self._channel.send(FORKED, slot=slot, pid=os.getpid())
        with suppress(OSError):  # the process between the two was killed
            os.write(pipe[1], b"1")
        for end in pipe:
            os.close(end)
        if self._channel.is_behind or not processes.is_adopted(self._supervisor):
            os._exit(ExitCode.INTERNAL)  # the supervisor does not know it, or has ended

    def _part(self) -> None:
        self._channel.close()
        for number in self._files:
            position = os.lseek(number, 0, os.SEEK_CUR)
            own = _opened_again(number)
            os.lseek(own, position, os.SEEK_SET)
            os.dup2(own, number, inheritable=os.get_inheritable(number))
            os.close(own)
        for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]  # noqa: SLF001
            if finalizer.atexit:  # what it removes is the template's, and other workers use it
                finalizer.detach()


def _forked() -> int | None:
    """Return what fork returns, None if no process can be started."""
    try:
        return os.fork()
    except OSError:
        return None


def _end_of(pid: int) -> int:
    """Wait for the end of a child and return its status."""
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:  # the user's code has told the kernel to reap children
        return 0


def _fork_and_end(reader: int, writer: int) -> None:
    """Fork the worker and end once it has reported; return in the worker only."""
    worker = _forked()
    if worker == 0:
        return
    with suppress(OSError):
        os.close(writer)
        os.read(reader, 1)  # nothing if the worker has died
    os._exit(worker is None)


def _seeds() -> list[Seed]:
    """Return what seeds the generators of a new worker by numbers that this process draws.

    So no two workers draw the same numbers, and all of them draw the same as before if model_fn has
    seeded the generators.
    """
    found: list[Seed] = [partial(random.seed, random.getrandbits(64))]

    def draw_numpys() -> None:
        numbers = sys.modules["numpy.random"]
        found.append(partial(numbers.seed, numbers.randint(2**31)))

    def draw_torchs() -> None:
        torch = sys.modules["torch"]
        found.append(partial(torch.default_generator.manual_seed, int(torch.randint(2**62, ()))))

    for name, draw in (("numpy.random", draw_numpys), ("torch", draw_torchs)):
        if name in sys.modules:
            guard.attempt(draw)
    return found


def _flush(stream: Any) -> None:
    stream.flush()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let no signal's handler raise in a process that is not yet what it will be."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
