"""PID 1: starts the front and the model workers, restarts workers, ends everything in order.

Standard library only; it never sees a request. One thread waits on one selector for signals and
workers' reports, with the next due time as its timeout.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence

from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.supervisor.model_processes import ModelProcesses
from sagemaker_byoc.serving.supervisor.processes import SignalPipe
from sagemaker_byoc.serving.supervisor.slots import Slot
from sagemaker_byoc.serving.supervisor.workers import LoadFailedError, Workers

FRONT = "sagemaker_byoc.serving.front"
STOPS = (signal.SIGTERM, signal.SIGINT)
WORKER_STOP = 2.0
"""Seconds from SIGTERM to SIGKILL for a worker when no request is left."""
GUNICORNS = ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE", "PORT")
GUNICORN_PREFIXES = ("GUNICORN_", "LISTEN_")
"""Prefixes of variables that gunicorn reads by itself; a WEB_CONCURRENCY that is not a number would
end it at once."""


class Supervisor:
    """Owns every process; `run` returns the exit code."""

    def __init__(self, settings: Settings, *, http: socket.socket, link: socket.socket) -> None:
        self._settings = settings
        self._http = http
        self._link = link
        ours, self._fronts_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._models = ModelProcesses(ours, start=self._start_worker, kill_after=WORKER_STOP)
        self._front: int | None = None
        self._exit_code: int | None = None
        self._selector = selectors.DefaultSelector()
        # On a multi-model endpoint it has none: all models come by request.
        self._workers = Workers(settings, link, self._selector)

    @property
    def _slots(self) -> list[Slot]:
        return [*self._workers.slots, *self._models.slots.values()]

    def run(self) -> int:
        """Run until a stop signal, or a failure that only a new container can fix."""
        with SignalPipe((*STOPS, signal.SIGCHLD)) as signals:
            self._selector.register(signals.fileno(), selectors.EVENT_READ)
            self._selector.register(self._models.channel, selectors.EVENT_READ)
            try:
                self._start_all()
                while self._exit_code is None:
                    try:
                        self._step(signals)
                    except LoadFailedError as error:
                        log.say(f"{error}; giving up")
                        self._exit_code = ExitCode.MODEL_FAILED
                self._drain(signals)
                return self._exit_code
            finally:
                self._kill_all()
                self._selector.close()

    def _start_all(self) -> None:
        sockets = [self._http.fileno(), self._link.fileno(), self._fronts_end.fileno()]
        self._front = processes.spawn(
            FRONT,
            [self._settings.to_json(), *map(str, sockets)],
            _front_environ(os.environ),
            options=["-I"],  # nothing in the environment or the working directory reaches it
            inherit=sockets,
        )
        # The front's copies are the only ones now: once it closes them, connections are refused.
        self._http.close()
        self._fronts_end.close()
        self._workers.start_all()

    def _start_worker(self, slot: Slot) -> None:
        slot.start(self._settings, self._link)

    # ── the loop ──

    def _step(self, signals: SignalPipe) -> None:
        self._selector.select(self._seconds_to_next())
        for number in signals.read():
            if number in STOPS:
                log.say(f"{signal.Signals(number).name}: finishing running requests")
                self._exit_code = ExitCode.OK
                return
        ended = processes.reap()
        self._workers.handle_messages()  # a worker has reported its pid before it can be reaped
        for pid, returncode in ended:
            self._on_end(pid, returncode)
        self._models.handle_messages()
        now = time.monotonic()
        if self._exit_code is not None:
            return
        self._workers.start_due(now)
        for slot in self._models.slots.values():
            if slot.start_at is not None and slot.start_at <= now:
                self._start_worker(slot)

    def _seconds_to_next(self) -> float | None:
        """Return the seconds until something is due."""
        times = [slot.start_at for slot in self._slots if slot.start_at is not None]
        start = max(0.0, min(times) - time.monotonic()) if times else None
        steps = (start, self._models.step(), self._workers.step(time.monotonic()))
        due = [seconds for seconds in steps if seconds is not None]
        return min(due, default=None)

    def _on_end(self, pid: int, returncode: int) -> None:
        if pid == self._front:
            self._front = None
            processes.kill_session(pid)  # its HTTP process cannot continue alone
            log.say(f"the front {processes.describe(returncode)}; nothing can be served")
            self._exit_code = ExitCode.INTERNAL
            return
        self._workers.on_end(pid, returncode)
        for slot in list(self._models.slots.values()):
            if pid == slot.pid:
                processes.kill_session(pid)  # what it started ends with it
                self._models.on_end(slot, returncode)

    # ── the end ──

    def _drain(self, signals: SignalPipe) -> None:
        """End the front first, with all its requests; then the workers, which have none left."""
        self._selector.unregister(self._models.channel)  # no model is loaded or unloaded any more
        self._workers.stop_watching()
        if self._front is not None:
            processes.send(self._front, signal.SIGTERM)
            self._await_end(signals, [self._front], self._drain_time())
        self._end_all(signals, [slot.pid for slot in self._slots])
        self._end_all(signals, [self._workers.template_pid])  # what it made, workers may use

    def _end_all(self, signals: SignalPipe, found: Sequence[int | None]) -> None:
        pids = [pid for pid in found if pid is not None]
        for pid in pids:
            processes.send(pid, signal.SIGTERM)
        self._await_end(signals, pids, WORKER_STOP)

    def _drain_time(self) -> float:
        """Return the seconds until the front is killed.

        Without a model no request is in flight, and a front that is still starting may not have
        received the signal.
        """
        if self._settings.is_multi_model or self._workers.was_loaded:
            return self._settings.drain + 1
        return WORKER_STOP

    def _await_end(self, signals: SignalPipe, pids: list[int], timeout: float) -> None:
        waiting = set(pids)
        until = time.monotonic() + timeout
        while waiting and (left := until - time.monotonic()) > 0:
            self._selector.select(left)
            signals.read()
            self._forget(processes.reap(), waiting)

    def _forget(self, ended: list[tuple[int, int]], waiting: set[int]) -> None:
        for pid, _ in ended:
            waiting.discard(pid)
            self._front = None if pid == self._front else self._front
            self._workers.forget_template(pid)
            for slot in self._slots:
                slot.pid = None if pid == slot.pid else slot.pid

    def _kill_all(self) -> None:
        left = (self._workers.template_pid, *(slot.pid for slot in self._slots))
        for pid in (self._front, *left):
            if pid is not None:
                processes.kill_session(pid)
        for slot in self._models.slots.values():
            slot.close()
        self._workers.close()
        sys.stderr.flush()


def _front_environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name not in GUNICORNS and not name.startswith(GUNICORN_PREFIXES)
    }
