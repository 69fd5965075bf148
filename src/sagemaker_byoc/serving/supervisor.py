"""PID 1: starts the front and the model workers, restarts workers, ends everything in order.

Standard library only; it never sees a request. One thread: signals and what workers report arrive
in one selector, time in its timeout.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sagemaker_byoc.contract.lifecycle import SERVE_DRAIN, ExitCode
from sagemaker_byoc.serving import log, processes
from sagemaker_byoc.serving.restarts import Restarts
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.signals import SignalPipe

FRONT = "sagemaker_byoc.serving.front"
WORKER = "sagemaker_byoc.serving.worker"
LOADED = b"loaded\n"
"""What a worker writes on its report pipe once its model is loaded and warmed."""
STOPS = (signal.SIGTERM, signal.SIGINT)
WORKER_STOP = 2.0
"""Seconds from SIGTERM to SIGKILL for a worker, when no request is left."""
GUNICORNS = ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE", "PORT")
GUNICORN_PREFIXES = ("GUNICORN_", "LISTEN_")
"""What gunicorn reads by itself; a WEB_CONCURRENCY that is no number would end it at once."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(slots=True)
class Slot:
    """One place for a model worker; `report` is our end of its pipe."""

    index: int
    restarts: Restarts = field(default_factory=Restarts)
    pid: int | None = None
    report: int | None = None
    was_loaded: bool = False
    start_at: float | None = None


class Supervisor:
    """Owns every process; `run` returns the exit code."""

    def __init__(self, settings: Settings, *, http: socket.socket, link: socket.socket) -> None:
        self._settings = settings
        self._http = http
        self._link = link
        self._slots = [Slot(index) for index in range(settings.slots)]
        self._front: int | None = None
        self._exit_code: int | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Until a stop signal, or a failure that only a new container can mend."""
        with SignalPipe((*STOPS, signal.SIGCHLD)) as signals:
            self._selector.register(signals.fileno(), selectors.EVENT_READ)
            try:
                self._start_all()
                while self._exit_code is None:
                    self._step(signals)
                self._drain(signals)
                return self._exit_code
            finally:
                self._kill_all()
                self._selector.close()

    def _start_all(self) -> None:
        self._front = processes.spawn(
            FRONT,
            [self._settings.to_json(), str(self._http.fileno()), str(self._link.fileno())],
            _front_environ(os.environ),
            options=["-I"],  # nothing in the environment or the working directory reaches it
            inherit=[self._http.fileno(), self._link.fileno()],
        )
        # The front's copies are the only ones now: once it closes them, connections are refused.
        self._http.close()
        for slot in self._slots:
            self._start_worker(slot)

    def _start_worker(self, slot: Slot) -> None:
        report, theirs = os.pipe()
        os.set_blocking(report, False)
        name = self._link.getsockname()
        assert isinstance(name, bytes)
        try:
            slot.pid = processes.spawn(
                WORKER,
                [self._settings.to_json(), str(slot.index), name[1:].decode(), str(theirs)],
                worker_environ(self._settings, slot.index),
                options=["-P", "-u"],  # PYTHONPATH counts: it may be the user's
                inherit=[theirs],
            )
        finally:
            os.close(theirs)
        slot.report, slot.start_at = report, None

    # ── the loop ──

    def _step(self, signals: SignalPipe) -> None:
        self._selector.select(self._time_to_next_start())
        for number in signals.read():
            if number in STOPS:
                log.say(f"{signal.Signals(number).name}: finishing what is under way")
                self._exit_code = ExitCode.OK
                return
        for pid, returncode in processes.reap():
            self._on_end(pid, returncode)
        now = time.monotonic()
        for slot in self._slots:
            if self._exit_code is None and slot.start_at is not None and slot.start_at <= now:
                self._start_worker(slot)

    def _time_to_next_start(self) -> float | None:
        times = [slot.start_at for slot in self._slots if slot.start_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _on_end(self, pid: int, returncode: int) -> None:
        if pid == self._front:
            self._front = None
            processes.kill_session(pid)  # its HTTP process can't go on alone
            log.say(f"the front {processes.describe(returncode)}; nothing can be served")
            self._exit_code = ExitCode.INTERNAL
            return
        for slot in self._slots:
            if pid == slot.pid:
                self._on_worker_end(slot, returncode)

    def _on_worker_end(self, slot: Slot, returncode: int) -> None:
        assert slot.pid is not None
        processes.kill_session(slot.pid)  # what it started goes with it
        self._read_report(slot)
        slot.pid = None
        how = processes.describe(returncode)
        if not slot.was_loaded:
            log.say(f"the model can't be loaded: the worker of slot {slot.index} {how}; giving up")
            self._exit_code = ExitCode.MODEL_FAILED
            return
        delay = slot.restarts.died(time.monotonic())
        if delay is None:
            log.say(f"slot {slot.index}: its worker {how}, again and again; giving up")
            self._exit_code = ExitCode.MODEL_FAILED
            return
        log.say(f"slot {slot.index}: its worker {how}; a new one starts in {delay:g} s")
        slot.start_at = time.monotonic() + delay

    def _read_report(self, slot: Slot) -> None:
        """A slot that has loaded once can load: later failures are worth another try."""
        if slot.report is None:
            return
        with suppress(BlockingIOError):  # something that the worker started keeps the pipe open
            slot.was_loaded |= os.read(slot.report, len(LOADED)) == LOADED
        os.close(slot.report)
        slot.report = None

    # ── the end ──

    def _drain(self, signals: SignalPipe) -> None:
        """First the front, with all its requests; then the workers, which have none left."""
        if self._front is not None:
            processes.send(self._front, signal.SIGTERM)
            self._await_end(signals, [self._front], SERVE_DRAIN.value + 1)
        pids = [slot.pid for slot in self._slots if slot.pid is not None]
        for pid in pids:
            processes.send(pid, signal.SIGTERM)
        self._await_end(signals, pids, WORKER_STOP)

    def _await_end(self, signals: SignalPipe, pids: list[int], patience: float) -> None:
        waiting = set(pids)
        until = time.monotonic() + patience
        while waiting and (left := until - time.monotonic()) > 0:
            self._selector.select(left)
            signals.read()
            self._forget(processes.reap(), waiting)

    def _forget(self, ended: list[tuple[int, int]], waiting: set[int]) -> None:
        for pid, _ in ended:
            waiting.discard(pid)
            self._front = None if pid == self._front else self._front
            for slot in self._slots:
                slot.pid = None if pid == slot.pid else slot.pid

    def _kill_all(self) -> None:
        for pid in (self._front, *(slot.pid for slot in self._slots)):
            if pid is not None:
                processes.kill_session(pid)
        for slot in self._slots:
            if slot.report is not None:
                os.close(slot.report)
        sys.stderr.flush()


def worker_environ(settings: Settings, slot: int) -> dict[str, str]:
    environ = dict(os.environ)
    for name in THREADS:
        environ.setdefault(name, str(settings.threads_per_slot))
    # The default lets a thread that waits for the others spin, on the very CPU that the front or
    # the others need: docs/decisions/0002.
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gpu = settings.gpu_of(slot)
    if gpu is not None:
        environ["CUDA_VISIBLE_DEVICES"] = gpu
    return environ


def _front_environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name not in GUNICORNS and not name.startswith(GUNICORN_PREFIXES)
    }
