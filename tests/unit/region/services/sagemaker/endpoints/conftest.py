"""Hosting without a wire: models and endpoints on containers of a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import tarfile

import pytest
from tests.unit.region.services.sagemaker.endpoints.fake_engine import (
    BOUND,
    FakeEngine,
    FakeImages,
)

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.polling import WAITS
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import EndpointConfigs
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import CHANGING
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoints import Endpoints
from sagemaker_byoc.region.services.sagemaker.model_registry.groups import ModelPackageGroups
from sagemaker_byoc.region.services.sagemaker.model_registry.packages import ModelPackages
from sagemaker_byoc.region.services.sagemaker.models import Models
from sagemaker_byoc.region.services.sagemaker.search.search import Search
from sagemaker_byoc.region.services.sagemaker_runtime.invocation import Invocations, Policy
from sagemaker_byoc.region.services.sagemaker_runtime.invocation_metrics import (
    InvocationMetrics,
)
from sagemaker_byoc.region.wire.http import Request
from sagemaker_byoc.region.wire.operations import AwsError, EntityTooLargeError

ARN = "arn:aws:sagemaker:us-east-1:000000000000"


def archive(**files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


class Body:
    def __init__(self, data):
        self.data = data

    async def read(self, limit):
        await asyncio.sleep(0)
        if len(self.data) > limit:
            raise EntityTooLargeError(limit)
        return self.data


class HostingRegion:
    """Models, endpoints and invocations, and what a client does with them."""

    def __init__(self, state, **policy):
        self.state = state
        self.engine = FakeEngine()
        self.images = FakeImages()
        self.store = ObjectStore(state / "s3")
        self.logs = LogStore(state / "logs")
        self.context = RegionContext(
            state=state,
            account=Account(),
            engine=self.engine,
            images=self.images,
            store=self.store,
            logs=self.logs,
        )
        groups = ModelPackageGroups(self.context)
        packages = ModelPackages(self.context, groups)
        models = Models(self.context, packages)
        configs = EndpointConfigs(self.context, models)
        self.endpoints = Endpoints(self.context, configs)
        search = Search(self.context)
        kinds = (groups, packages, models, configs, self.endpoints, self.context.tags, search)
        self.operations = {name: run for kind in kinds for name, run in kind.operations().items()}
        self.metrics = InvocationMetrics(self.endpoints.by_name, self.context.metrics)
        policy = {"capture": self.endpoints.captures.take, "metrics": self.metrics, **policy}
        self.invocations = Invocations(self.endpoints.by_name, Account(), Policy(**policy))

    async def __aenter__(self):
        self.endpoints.start()
        self.metrics.start()
        return self

    async def __aexit__(self, *_):
        for container in self.engine.started:
            container.release.set()
        await self.endpoints.close()
        await self.metrics.close()
        self.context.metrics.close()
        await asyncio.to_thread(self.context.threads.close)
        await asyncio.to_thread(self.context.starts.close)
        assert not self.engine.running, "containers are left"

    async def call(self, operation, **parameters):
        result = self.operations[operation](parameters)
        return await result if inspect.isawaitable(result) else result

    async def refused(self, operation, **parameters):
        with pytest.raises(AwsError) as caught:
            await self.call(operation, **parameters)
        assert caught.value.code == "ValidationException"
        return caught.value.message

    async def model(self, name="model", **environment):
        container = {"Image": "serve:1", "Environment": environment}
        await self.call("CreateModel", ModelName=name, PrimaryContainer=container)

    async def config(self, name="config", *variants, **more):
        found = variants or (self.variant(),)
        await self.call(
            "CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[*found], **more
        )

    def variant(self, name="AllTraffic", model="model", **more):
        kind = {} if "ServerlessConfig" in more else {"InstanceType": "ml.m5.large"}
        return {"VariantName": name, "ModelName": model, **kind, **more}

    async def endpoint(self, name="one", config="config", **more):
        """Created, and waited for; its description."""
        await self.call("CreateEndpoint", EndpointName=name, EndpointConfigName=config, **more)
        return await self.settled(name)

    async def settled(self, name="one"):
        found = await self.waiter(name)
        assert found["EndpointStatus"] not in CHANGING
        return found

    async def waiter(self, name="one"):
        """What DescribeEndpoint answers to a waiter of botocore."""

        async def look():
            WAITS.set(True)
            return await self.call("DescribeEndpoint", EndpointName=name)

        async with asyncio.timeout(BOUND):
            return await asyncio.create_task(look())

    async def gone(self, name="one"):
        with contextlib.suppress(AwsError):
            await self.waiter(name)
        assert "Could not find" in await self.refused("DescribeEndpoint", EndpointName=name)

    async def delete(self, name="one"):
        await self.call("DeleteEndpoint", EndpointName=name)
        await self.gone(name)

    async def invoke(self, body=b"hello", name="one", way="invocations", **headers):
        found = {key.replace("_", "-").lower(): value for key, value in headers.items()}
        return await self.invocations(
            Request(
                method="POST",
                target=f"/endpoints/{name}/{way}",
                query_string="",
                headers=found,
                body=Body(body),
                id="request-1",
            )
        )

    def log(self, name="one"):
        """All lines of the endpoint's streams."""
        group = f"/aws/sagemaker/Endpoints/{name}"
        return {
            stream: [event.text for event in self.logs.events(group, stream)]
            for stream in self.logs.streams(group)
        }


@pytest.fixture
def play(tmp_path):
    """Runs `scene(region)`, bounded; no container may be left."""

    def run(scene, **policy):
        async def main():
            async with asyncio.timeout(3 * BOUND), HostingRegion(tmp_path, **policy) as region:
                await scene(region)

        asyncio.run(main())

    return run
