"""The registry of the region: the ecr API, and the registry that it is the front of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.local.account import Account
from sagemaker_byoc.local.registry.http import RegistryHttp
from sagemaker_byoc.local.registry.images import ImageOperations
from sagemaker_byoc.local.registry.manifests import Manifests
from sagemaker_byoc.local.registry.operations import EcrOperations
from sagemaker_byoc.local.registry.repositories import Repositories
from sagemaker_byoc.local.registry.tokens import Tokens
from sagemaker_byoc.local.storage.threads import Threads
from sagemaker_byoc.local.wire.http import Handler
from sagemaker_byoc.local.wire.service import Operation


class Registry:
    """`url` is where the region answers, `http://127.0.0.1:PORT`: images are pushed there, and
    repository URIs start with its host and port, so that `docker push` finds it."""

    def __init__(self, *, state: Path, account: Account, url: str) -> None:
        folder = state / "registry"
        self.repositories = Repositories(folder, account.id)
        manifests = Manifests(self.repositories, account.id)
        tokens = Tokens(folder)
        self._threads = Threads()
        images = ImageOperations(self.repositories, manifests, account)
        self._ecr = EcrOperations(self.repositories, images, tokens, account, url)
        self.handler: Handler = RegistryHttp(self.repositories, manifests, tokens, self._threads)

    def operations(self) -> Mapping[str, Operation]:
        return self._ecr.operations(self._threads)

    def start(self) -> None:
        """Nothing to find again: a push that was cut off goes on, or is swept an hour later."""

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.close)
