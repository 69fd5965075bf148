"""The containers of a job of any kind: started, watched and emptied; its log, and why it failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from sagemaker_byoc.contract.errors import ByocError, MachineError
from sagemaker_byoc.contract.folders import LEFT_OUT
from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.region.containers.hosts import Hosts, OnLine, Outcome
from sagemaker_byoc.region.containers.images import PullError
from sagemaker_byoc.region.engines.container import ContainerSpec, Network
from sagemaker_byoc.region.services.logs.log_store import LastingStream, LogStore
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import DownloadError
from sagemaker_byoc.region.services.sagemaker.utilization import Place
from sagemaker_byoc.region.wire.operations import AwsError

MOST_LEFT_OUT = 1000
"""Lines of a log about files that were left out; a program can cause any number of them."""
REASON_PART = 600
"""Most bytes of the engine's message, which leaves room for where the containers are kept."""
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."


class CollectError(Exception):
    """The containers' folders can't be copied, or the engine lost the containers."""


class UploadError(Exception):
    """The artifacts can't be stored: the bucket is gone, or the disk is full."""


def reason_of(error: BaseException) -> str:
    """Return the FailureReason of a job that `error` ended."""
    match error:
        case PullError():
            return f"ClientError: {error.message}"
        case DownloadError() | AwsError():
            text = error.message if isinstance(error, AwsError) else str(error)
            return f"ClientError: Data download failed: {text}"
        case MachineError() | CollectError() | OSError():
            return f"InternalServerError: {error}"
        case ByocError():
            return f"ClientError: {error}"
        case UploadError():
            return f"ClientError: Artifact upload failed: {error}"
    return INTERNAL


class JobContainers:
    """The containers of a job, of one attempt after the other.

    `opened` holds what ends with them, in reverse order: they stay until the results are in S3.
    """

    def __init__(self, context: RegionContext, log: JobLog) -> None:
        self.hosts = Hosts()
        self.opened = ExitStack()
        self._context = context
        self._log = log

    def open_network(self, network: Network) -> None:
        """Begin an attempt."""
        self.hosts = Hosts()
        self._context.engine.open_network(network)
        self.opened.callback(self._context.engine.close_network, network)

    def start(
        self, network: Network, specs: Mapping[str, ContainerSpec], role: str, on_line: OnLine
    ) -> None:
        """Start all containers in the open network, with keys of `role`, or none.

        Raise ByocError.
        """
        access = self._context.access
        if access is not None:
            # Only now: the address of the region is known once the network is there.
            found = self.opened.enter_context(access.opened(network, role))
            specs = {
                host: replace(spec, environment={**found, **spec.environment})
                for host, spec in specs.items()
            }
        self.hosts.start(self._context.engine, specs, on_line)
        self.opened.callback(self.hosts.close)
        for host, container in self.hosts.containers.items():
            place = self._log.place(host)
            self.opened.callback(self._context.utilization.follow(container, specs[host], place))

    def collect(self, outcome: Outcome) -> None:
        """Raise CollectError; the containers are kept then, with all that they hold."""
        try:
            for host, why in outcome.lost.items():
                raise MachineError(f"{host} was lost: {why}", hint="Check the engine")
            for container in self.hosts.containers.values():
                container.collect(self._log.say_once)
        except (ByocError, OSError) as error:
            raise CollectError(f"{clip(str(error), REASON_PART)}. {self.hosts.keep()}") from error

    def close(self) -> None:
        self.opened.close()


class JobLog:
    """The log streams of a job in the log group of its kind: one per host, JOB/HOST-EPOCH_SECONDS.

    A stream is opened by its first line; `begin` starts new ones, for new instances. A log that
    can't be written, on a full disk, does not end the job: lines are lost, and counted.
    """

    def __init__(self, logs: LogStore, group: str, job: str, first_host: str) -> None:
        self._logs = logs
        self._group = group
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
                stream = self._streams[host] = LastingStream(self._logs, self._group, name)
        stream.write(line)

    def place(self, host: str) -> Place:
        """Return where the metrics of a host go: the namespace is named like the log group."""
        name = f"{self._job}/{host}"
        return Place(self._group, {"Host": name}, f"{self._group}/{name}")

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
