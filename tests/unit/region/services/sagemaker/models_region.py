"""Models without a wire, on containers of a fake engine, for endpoints and jobs that use them."""

from __future__ import annotations

import asyncio
import inspect

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
from sagemaker_byoc.region.services.sagemaker.model_registry.groups import ModelPackageGroups
from sagemaker_byoc.region.services.sagemaker.model_registry.packages import ModelPackages
from sagemaker_byoc.region.services.sagemaker.models import Models
from sagemaker_byoc.region.wire.operations import AwsError


class ModelsRegion:
    """Models and their registry, and what a client does with them; `add` adds other kinds."""

    def __init__(self, state):
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
        self.models = Models(self.context, packages)
        self.operations = {}
        self.add(groups, packages, self.models, self.context.tags)

    def add(self, *kinds):
        for kind in kinds:
            self.operations.update(kind.operations())

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for container in self.engine.started:
            container.release.set()
        await self.close()
        await asyncio.to_thread(self.context.threads.close)
        await asyncio.to_thread(self.context.starts.close)
        self.context.metrics.close()
        self.store.close()
        assert not self.engine.running, "containers are left"

    async def close(self):
        """Stop what runs."""

    async def call(self, operation, **parameters):
        result = self.operations[operation](parameters)
        return await result if inspect.isawaitable(result) else result

    async def refusal(self, operation, **parameters):
        with pytest.raises(AwsError) as caught:
            await self.call(operation, **parameters)
        return caught.value

    async def refused(self, operation, **parameters):
        """The message of a ValidationException."""
        error = await self.refusal(operation, **parameters)
        assert error.code == "ValidationException"
        return error.message

    async def waiter(self, operation, **parameters):
        """What the operation answers to a waiter of botocore."""

        async def look():
            WAITS.set(True)
            return await self.call(operation, **parameters)

        async with asyncio.timeout(BOUND):
            return await asyncio.create_task(look())

    async def model(self, name="model", **environment):
        container = {"Image": "serve:1", "Environment": environment}
        await self.call("CreateModel", ModelName=name, PrimaryContainer=container)
