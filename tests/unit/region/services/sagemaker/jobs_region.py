"""Jobs without a wire: the service on an event loop, containers of the process engine."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import SECONDS, wait_until

from sagemaker_byoc.region.containers.recorded_images import RecordedImages
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.polling import CLIENT
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs.job_operations import Jobs

BUCKET = "data-bucket"


@dataclass
class JobsRegion:
    """Jobs of one kind with their store and logs, in a thread; operations are plain calls."""

    state: Path
    engine: object
    images: object = None
    store: ObjectStore = field(init=False)
    logs: LogStore = field(init=False)
    context: RegionContext = field(init=False)
    jobs: Jobs = field(init=False)

    def __post_init__(self):
        self.store = ObjectStore(self.state / "s3")
        self.logs = LogStore(self.state / "logs")
        if not self.store.has_bucket(BUCKET):
            self.store.create_bucket(BUCKET)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.context = RegionContext(
            state=self.state,
            account=Account(),
            engine=self.engine,
            images=self.images or RecordedImages(self.state),
            store=self.store,
            logs=self.logs,
        )
        self.jobs = self.make_jobs(self.context)
        self._on_loop(self._start())

    def make_jobs(self, context):
        raise NotImplementedError

    async def _start(self):
        self.jobs.start()

    def _on_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS)

    def close(self):
        self._on_loop(self.jobs.close())
        self._on_loop(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.context.metrics.close()
        self.store.close()

    def call(self, operation, client="", **parameters):
        async def run():
            CLIENT.set(client)
            answer = {**self.jobs.operations(), **self.context.tags.operations()}[operation]
            if inspect.iscoroutinefunction(answer):
                return await answer(parameters)
            return await asyncio.to_thread(answer, parameters)

        return self._on_loop(run())

    def create(self, script=None, name="job-1", **more):
        """A job whose container runs `script` with sh."""
        raise NotImplementedError

    def describe(self, name="job-1"):
        kind = self.jobs.kind
        return self.call(f"Describe{kind.member}", **{kind.name_member: name})

    def end(self, name="job-1"):
        """The job's description once it has ended."""

        def ended():
            document = self.describe(name)
            status = document[self.jobs.kind.status_member]
            return status not in {"InProgress", "Stopping"} and document

        return wait_until(ended, f"the end of {name}")

    def run(self, script=None, name="job-1", **more):
        self.create(script, name, **more)
        return self.end(name)

    def log(self, name="job-1", host="algo-1"):
        return [
            event.text
            for stream in self.logs.streams(self.jobs.kind.group, f"{name}/{host}-")
            for event in self.logs.events(self.jobs.kind.group, stream)
        ]

    def wait_for_line(self, line, name="job-1", host="algo-1"):
        wait_until(lambda: line in self.log(name, host), f"{line!r} in the log")

    def objects(self, prefix=""):
        return [info.key for info in self.store.list(BUCKET, prefix)]

    def read(self, key):
        return self.store.get(BUCKET, key).path.read_bytes()

    def put(self, key, data=b"x"):
        self.store.put_bytes(BUCKET, key, data)
