"""What every job of the region uses: the parts of the region, and a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.folders import LEFT_OUT
from sagemaker_byoc.region.containers.access import ContainerAccess
from sagemaker_byoc.region.containers.images import Images
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.services.logs.log_store import LastingStream, LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore

GROUP = "/aws/sagemaker/TrainingJobs"
MOST_LEFT_OUT = 1000
"""Lines of a log about files that were left out; a program can cause any number of them."""


class JobLog:
    """The log streams of a job: one per host, `JOB/algo-N-EPOCH_SECONDS`.

    A stream is opened by its first line; `begin` starts new ones, for new instances. A log that
    can't be written, on a full disk, does not end the job: lines are lost, and counted.
    """

    def __init__(self, logs: LogStore, job: str, first_host: str) -> None:
        self._logs = logs
        self._job = job
        self._first_host = first_host
        self._streams: dict[str, LastingStream] = {}
        self._epoch = 0
        self._said: set[str] = set()
        self._left_out = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._close()
            # A new name, however soon an instance was replaced.
            self._epoch = max(int(time.time()), self._epoch + 1)

    def write(self, host: str, line: str) -> None:
        with self._lock:
            stream = self._streams.get(host)
            if stream is None:
                name = f"{self._job}/{host}-{self._epoch}"
                stream = self._streams[host] = LastingStream(self._logs, GROUP, name)
        stream.write(line)

    def say(self, line: str) -> None:
        """Write a line of the region's own, into the first host's stream."""
        self.write(self._first_host, line)

    def say_once(self, sentence: str) -> None:
        """Write the sentence unless it was written before."""
        with self._lock:
            if sentence.startswith(LEFT_OUT):
                self._left_out += sentence not in self._said
                if self._left_out > MOST_LEFT_OUT:
                    sentence = f"{LEFT_OUT}more than {MOST_LEFT_OUT} things; the rest is not listed"
            if sentence in self._said:
                return
            self._said.add(sentence)
        self.say(f"byoc: {sentence}")

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """The parts of the region that a job uses."""

    store: ObjectStore
    engine: Engine
    images: Images
    work: Path
    """A folder in which each job has its own while it runs."""
    labels: Mapping[str, str]
    """Labels by which the containers and networks of this region are found."""
    account: Account
    access: ContainerAccess | None
    """How containers reach the region; None if they can't."""
    prefix: str
    """Prefix of the names of containers and networks: other regions may share the engine."""
    gpus: int
    """The number that this machine has."""
