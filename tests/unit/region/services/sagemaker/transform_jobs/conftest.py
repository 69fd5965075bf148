"""Transform jobs without a wire, on containers of the endpoints' fake engine."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.region.services.sagemaker.endpoints.fake_engine import BOUND
from tests.unit.region.services.sagemaker.models_region import ModelsRegion

from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_jobs import TransformJobs

GROUP = "/aws/sagemaker/TransformJobs"


class TransformRegion(ModelsRegion):
    """Models and transform jobs; objects are in the bucket `data`, below `in/` and `out/`."""

    def __init__(self, state):
        super().__init__(state)
        if not self.store.has_bucket("data"):
            self.store.create_bucket("data")
        self.jobs = TransformJobs(self.context, self.models)
        self.add(self.jobs)

    async def __aenter__(self):
        self.jobs.start()
        return self

    async def __aexit__(self, *_):
        await super().__aexit__()
        assert not [*(self.state / "s3" / ".new").iterdir()], "an unfinished output is left"
        work = self.context.work("transform-jobs")
        assert not [*work.glob("*")], "the folder of a job is left"

    async def close(self):
        await self.jobs.close()

    def put(self, **objects):
        for name, data in objects.items():
            self.store.put_bytes("data", f"in/{name}", data)

    def request(self, name="job", **more):
        """A request for single lines; the name of a member's member is `Member__Member`."""
        found = {
            "TransformJobName": name,
            "ModelName": "model",
            "BatchStrategy": "SingleRecord",
            "TransformInput": {
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}
                },
                "SplitType": "Line",
            },
            "TransformOutput": {"S3OutputPath": "s3://data/out", "AssembleWith": "Line"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        }
        for path, value in more.items():
            *outer, inner = path.split("__")
            target = found
            for member in outer:
                target = target[member]
            target[inner] = value
        return found

    async def create(self, name="job", **more):
        request = self.request(name, **more)
        return (await self.call("CreateTransformJob", **request))["TransformJobArn"]

    async def describe(self, name="job"):
        return await self.call("DescribeTransformJob", TransformJobName=name)

    async def end(self, name="job"):
        """The job's description once it has ended, as a waiter of botocore gets it."""
        found = await self.waiter("DescribeTransformJob", TransformJobName=name)
        assert found["TransformJobStatus"] in {"Completed", "Failed", "Stopped"}
        return found

    async def run(self, name="job", **more):
        await self.create(name, **more)
        return await self.end(name)

    def outputs(self):
        return {
            info.key.removeprefix("out/"): self.store.get("data", info.key).path.read_bytes()
            for info in self.store.list("data", "out/")
        }

    def log(self, name="job"):
        """The lines of each stream."""
        return {
            stream: [event.text for event in self.logs.events(GROUP, stream)]
            for stream in self.logs.streams(GROUP, f"{name}/")
        }

    def data_log(self, name="job"):
        """All lines of the data logs, without their times."""
        streams = {k: lines for k, lines in self.log(name).items() if k.endswith("/data-log")}
        return [
            line.partition(":[sagemaker logs]: ")[2] for each in streams.values() for line in each
        ]


@pytest.fixture
def play(tmp_path):
    """Runs `scene(region)`, bounded; nothing of a job may be left."""

    def run(scene):
        async def main():
            async with asyncio.timeout(3 * BOUND), TransformRegion(tmp_path) as region:
                await scene(region)

        asyncio.run(main())

    return run
