"""The log streams of a job: one a host, `<job>/algo-<n>-<epoch seconds>`."""

from __future__ import annotations

import logging
import threading
import time

from sagemaker_byoc.local.logs.store import LogStore, LogStream

LOG = logging.getLogger(__name__)

GROUP = "/aws/sagemaker/TrainingJobs"
MOST_SAID_ONCE = 1000
"""Different sentences; what is left out of a job's output could be anything, often."""


class JobLog:
    """Streams are opened by their first line; `begin` starts new ones, for new instances.

    A log that can't be written, on a full disk, ends no job: lines are lost, and counted.
    """

    def __init__(self, logs: LogStore, job: str, first_host: str) -> None:
        self._logs = logs
        self._job = job
        self._first_host = first_host
        self._streams: dict[str, LogStream] = {}
        self._epoch = 0
        self._said: set[str] = set()
        self._lost = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._close()
            # Not the same stream again, however soon an instance was replaced.
            self._epoch = max(int(time.time()), self._epoch + 1)

    def write(self, host: str, line: str) -> None:
        try:
            with self._lock:
                stream = self._streams.get(host)
                if stream is None:
                    stream = self._logs.open(GROUP, f"{self._job}/{host}-{self._epoch}")
                    self._streams[host] = stream
            if self._lost:
                stream.write(f"byoc: {self._lost} lines before this one could not be written")
                self._lost = 0
            stream.write(line)
        except (OSError, ValueError) as error:  # ValueError: closed, for a reader that was late
            if not self._lost:
                LOG.warning("the log of %s can't be written: %s", self._job, error)
            self._lost += 1

    def say(self, line: str) -> None:
        """What the platform has to tell, in the first host's stream."""
        self.write(self._first_host, line)

    def say_once(self, sentence: str) -> None:
        """Tell it, unless it has been told; for what is found again at each look."""
        with self._lock:
            if sentence in self._said or len(self._said) > MOST_SAID_ONCE:
                return
            self._said.add(sentence)
            if len(self._said) > MOST_SAID_ONCE:
                sentence = "there is more of this kind, which is not listed"
        self.say(f"byoc: {sentence}")

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
