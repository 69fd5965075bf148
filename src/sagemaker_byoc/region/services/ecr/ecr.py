"""The service ECR: the operations of its API, and the registry behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.containers.images import Reference
from sagemaker_byoc.region.containers.specs import PushedImage
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.ecr.distribution import RegistryHttp
from sagemaker_byoc.region.services.ecr.image_operations import ImageOperations
from sagemaker_byoc.region.services.ecr.manifests import Manifests
from sagemaker_byoc.region.services.ecr.repositories import Repositories
from sagemaker_byoc.region.services.ecr.repository_operations import EcrOperations
from sagemaker_byoc.region.services.ecr.tokens import Tokens
from sagemaker_byoc.region.wire.http import Handler
from sagemaker_byoc.region.wire.operations import AwsError, Operation

_MOST_CONFIG = 4 << 20
"""Largest configuration of an image, in bytes."""


class Registry:
    """`url` is where the region answers, `http://127.0.0.1:PORT`: images are pushed there, and
    repository URIs start with its host and port, so that `docker push` finds it."""

    def __init__(self, *, state: Path, account: Account, url: str) -> None:
        folder = state / "registry"
        self.repositories = Repositories(folder, account.id)
        self._manifests = manifests = Manifests(self.repositories, account.id)
        self._tokens = tokens = Tokens(folder)
        self._host = url.removeprefix("http://")
        self._threads = Threads("ecr")
        images = ImageOperations(self.repositories, manifests, account)
        self._ecr = EcrOperations(self.repositories, images, tokens, account, url)
        self.handler: Handler = RegistryHttp(self.repositories, manifests, tokens, self._threads)

    def pushed(self, reference: Reference) -> PushedImage | None:
        """Return the image that `reference` names here, by its digest or its tag."""
        try:
            found = self._manifests.find(
                reference.repository, tag=reference.tag or None, digest=reference.digest or None
            )
        except AwsError:  # the repository does not exist
            return None
        if found is None:
            return None
        token, _ = self._tokens.issue(datetime.now(UTC))
        manifest = self._manifests.document(found)
        return PushedImage(
            digest=found.digest,
            media_type=found.media_type,
            manifest=manifest,
            architecture=self._architecture(manifest),
            host=self._host,
            token=token,
        )

    def _architecture(self, manifest: Mapping[str, Any]) -> str:
        """Return the configuration's architecture; "" if it is not a configuration of an image."""
        try:
            path = self.repositories.blobs.path(manifest["config"]["digest"])
            with path.open("rb") as file:
                config = json.loads(file.read(_MOST_CONFIG))
            return str(config["architecture"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def operations(self) -> Mapping[str, Operation]:
        return self._ecr.operations(self._threads)

    def start(self) -> None:
        """There is nothing to find after a restart: a broken push continues or is swept later."""

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.close)
