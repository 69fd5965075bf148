"""The log streams of a job: one a host, `<job>/algo-<n>-<epoch seconds>`."""

from __future__ import annotations

import threading
import time

from sagemaker_byoc.local.logs.store import LogStore, LogStream

GROUP = "/aws/sagemaker/TrainingJobs"


class JobLog:
    """Streams are opened by their first line; `begin` starts new ones, for new instances."""

    def __init__(self, logs: LogStore, job: str, first_host: str) -> None:
        self._logs = logs
        self._job = job
        self._first_host = first_host
        self._streams: dict[str, LogStream] = {}
        self._epoch = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._close()
            # Not the same stream again, however soon an instance was replaced.
            self._epoch = max(int(time.time()), self._epoch + 1)

    def write(self, host: str, line: str) -> None:
        with self._lock:
            stream = self._streams.get(host)
            if stream is None:
                stream = self._logs.open(GROUP, f"{self._job}/{host}-{self._epoch}")
                self._streams[host] = stream
        stream.write(line)

    def say(self, line: str) -> None:
        """What the platform has to tell, in the first host's stream."""
        self.write(self._first_host, line)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
