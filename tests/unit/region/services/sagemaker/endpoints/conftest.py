"""Hosting without a wire: models and endpoints on containers of a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tarfile

import pytest
from tests.unit.region.services.sagemaker.endpoints.fake_engine import BOUND
from tests.unit.region.services.sagemaker.models_region import ModelsRegion

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import EndpointConfigs
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import CHANGING
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoints import Endpoints
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


class HostingRegion(ModelsRegion):
    """Models, endpoints and invocations, and what a client does with them."""

    def __init__(self, state, **policy):
        super().__init__(state)
        configs = EndpointConfigs(self.context, self.models)
        self.endpoints = Endpoints(self.context, configs)
        search = Search(self.context)
        self.add(configs, self.endpoints, search)
        self.metrics = InvocationMetrics(self.endpoints.by_name, self.context.metrics)
        policy = {"capture": self.endpoints.captures.take, "metrics": self.metrics, **policy}
        self.invocations = Invocations(self.endpoints.by_name, Account(), Policy(**policy))

    async def __aenter__(self):
        self.endpoints.start()
        self.metrics.start()
        return self

    async def close(self):
        await self.endpoints.close()
        await self.metrics.close()
        self.context.metrics.close()

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
        found = await self.waiter("DescribeEndpoint", EndpointName=name)
        assert found["EndpointStatus"] not in CHANGING
        return found

    async def gone(self, name="one"):
        with contextlib.suppress(AwsError):
            await self.waiter("DescribeEndpoint", EndpointName=name)
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
