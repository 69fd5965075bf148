"""Hosting as one service: models, endpoint configurations, endpoints, invocations."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.containers.access import ContainerAccess
from sagemaker_byoc.region.containers.images import Images
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import Records
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.catalog import CONFIG, ENDPOINT, MODEL, Catalog, Tags
from sagemaker_byoc.region.services.sagemaker.endpoints.capture import Captures
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import EndpointConfigs
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoints import EndpointOperations
from sagemaker_byoc.region.services.sagemaker.endpoints.hosting_context import HostingContext
from sagemaker_byoc.region.services.sagemaker.models import Models
from sagemaker_byoc.region.services.sagemaker_runtime.invocation import Invocations, Policy
from sagemaker_byoc.region.wire.http import Handler
from sagemaker_byoc.region.wire.operations import Operation


class Hosting:
    """`start` and `close` on the event loop that serves the requests."""

    def __init__(  # noqa: PLR0913 - every part of the region that it needs
        self,
        *,
        state: Path,
        account: Account,
        store: ObjectStore,
        logs: LogStore,
        engine: Engine,
        images: Images,
        access: ContainerAccess | None = None,
        policy: Policy | None = None,
    ) -> None:
        """`access` is how containers reach the region; without it they can't."""
        self._context = HostingContext(
            account=account,
            engine=engine,
            images=images,
            store=store,
            logs=logs,
            work=state / "work" / "endpoints",
            state=state,
            access=access,
        )
        records = state / "sagemaker"

        def catalog(words: str, resource: str, folder: str) -> Catalog:
            return Catalog(words, resource, account, Records(records / folder), Tags(state))

        models = catalog(MODEL, "model", "models")
        configs = catalog(CONFIG, "endpoint-config", "endpoint-configs")
        endpoints = catalog(ENDPOINT, "endpoint", "endpoints")
        self.models = Models(models, self._context)
        self.configs = EndpointConfigs(configs, models)
        self.captures = Captures(store, self._context.run)
        policy = policy or Policy()
        if policy.capture is None:
            policy = replace(policy, capture=self.captures.take)
        self.endpoints = EndpointOperations(endpoints, self.configs, self._context, self.captures)
        self._invocations = Invocations(self.endpoints.by_name, account, policy)

    @property
    def invoke_handler(self) -> Handler:
        """For `/endpoints/…` of sagemaker-runtime."""
        return self._invocations

    def operations(self) -> Mapping[str, Operation]:
        return {
            **self.models.operations(),
            **self.configs.operations(),
            **self.endpoints.operations(),
        }

    def start(self) -> None:
        """Bring up the recorded endpoints, after what an earlier run left has been removed."""
        self.endpoints.watch.start()
        swept = asyncio.create_task(self._context.run(self._clean), name="sweep hosting")
        self.endpoints.swept = swept
        for document in [*self.endpoints.catalog]:
            self.endpoints.adopt(document["EndpointName"]).recover(swept)

    async def close(self) -> None:
        """Stop all containers, with the contract's grace period; records stay."""
        if self.endpoints.swept is not None:
            await asyncio.gather(self.endpoints.swept, return_exceptions=True)
        await asyncio.gather(*(each.close() for each in self.endpoints.by_name.values()))
        await self.captures.close()
        self.endpoints.catalog.records.flush()
        self._context.threads.shutdown(wait=False)

    def _clean(self) -> None:
        """Remove whatever carries this region's labels: nothing of it runs yet."""
        work = self._context.work
        trees = [Tree(folder) for folder in work.glob("*/*/i-*") if folder.is_dir()]
        if trees or work.is_dir():
            self._context.engine.sweep(self._context.all_labels, trees)
        folders.remove(work)
