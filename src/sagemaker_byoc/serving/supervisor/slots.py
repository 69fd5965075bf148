"""The slot of one model worker: process, environment, restarts. Standard library only."""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sagemaker_byoc.contract.machine import CUDA_DEVICES
from sagemaker_byoc.contract.paths import home_variables
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import processes

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
WINDOW = 60.0
DEATHS_IN_WINDOW = 5


class Restarts:
    """The deaths of one slot's workers, and when to start the next one. Pure, with time passed
    in."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS_IN_WINDOW)
        self._delay = 0.0

    def died(self, now: float) -> float | None:
        """Return the seconds to wait before the next start; None after too many deaths.

        The delay doubles from death to death and starts again after a minute without one.
        """
        if self._deaths and now - self._deaths[-1] > WINDOW:
            self._delay = 0.0
        self._deaths.append(now)
        if len(self._deaths) == DEATHS_IN_WINDOW and now - self._deaths[0] <= WINDOW:
            return None
        self._delay = min(LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
        return self._delay


WORKER = "sagemaker_byoc.serving.worker"
LOADED = b"loaded\n"
"""Written by a worker on its report pipe once its model is loaded and warmed."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(slots=True, eq=False)
class Slot:
    """One slot. `report` is the supervisor's end of its pipe; `model` and `url` are set on a
    multi-model endpoint."""

    index: int
    model: str = ""
    url: str = ""
    restarts: Restarts = field(default_factory=Restarts)
    pid: int | None = None
    report: int | None = None
    was_loaded: bool = False
    start_at: float | None = None
    kill_at: float | None = None
    """When to kill the process; set once it was asked to end."""

    def start(self, settings: Settings, link: socket.socket) -> None:
        report, theirs = os.pipe()
        os.set_blocking(report, False)
        name = link.getsockname()
        assert isinstance(name, bytes)
        own = replace(settings, model_name=self.model, model_url=self.url)
        try:
            self.pid = processes.spawn(
                WORKER,
                [own.to_json(), str(self.index), name[1:].decode(), str(theirs)],
                worker_environ(settings, self.index),
                options=["-P", "-u"],  # PYTHONPATH counts: it may be the user's
                inherit=[theirs],
            )
        finally:
            os.close(theirs)
        self.report, self.start_at = report, None

    def read_report(self) -> None:
        """Read whether the worker has loaded. A slot that has loaded once can load: later failures
        are retried."""
        if self.report is None:
            return
        with suppress(BlockingIOError):  # something that the worker started keeps the pipe open
            self.was_loaded |= os.read(self.report, len(LOADED)) == LOADED
        self.close()

    def close(self) -> None:
        report, self.report = self.report, None
        if report is not None:
            os.close(report)


def worker_environ(settings: Settings, slot: int) -> dict[str, str]:
    environ = {**os.environ, **home_variables(os.environ)}
    for name in THREADS:
        environ.setdefault(name, str(settings.threads_per_slot))
    # The default lets a thread that waits for the others spin, on the very CPU that the front or
    # the others need: docs/decisions/0002.
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gpu = settings.gpu_of(slot)
    if gpu is not None:
        environ[CUDA_DEVICES] = gpu
    return environ
