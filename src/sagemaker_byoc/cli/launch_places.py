"""Where a launch goes: what makes its calls, and what only a service or this machine can say."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cloud import session
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.host.aws_calls import Call, Caller, RefusedError, note
from sagemaker_byoc.images.build import labels
from sagemaker_byoc.launch import image
from sagemaker_byoc.launch.shared import Shared, role_of
from sagemaker_byoc.launch.steps import Place, role_arn
from sagemaker_byoc.launch.table import SettingsError
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.credentials import Keys
from sagemaker_byoc.region.core.polling import FOLLOWER

if TYPE_CHECKING:
    from botocore.model import Shape, StructureShape


@dataclass(frozen=True, slots=True)
class Here:
    caller: Caller
    place: Place


class RegionCaller:
    """Makes calls in the region at `url`."""

    def __init__(self, url: str, region: str, keys: Keys) -> None:
        self.region = region
        self._url = url
        self._keys = keys
        self._clients: dict[str, Any] = {}

    def call(self, call: Call) -> dict[str, Any]:
        with target.explained_imports():
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - slow
        note(call, self._url)
        try:
            answer: dict[str, Any] = getattr(self._client(call.service), call.method)(
                **call.parameters
            )
        except ClientError as error:
            found = error.response.get("Error", {})
            raise RefusedError(
                str(found.get("Code", "")),
                f"{call.service} {call.operation}: {found.get('Message') or error}",
                hint="Correct what it names; `byoc ps` shows what the region has",
            ) from error
        except BotoCoreError as error:
            raise MachineError(str(error), hint="Is the region running? `byoc local up`") from error
        return answer

    def _client(self, service: str) -> Any:
        from sagemaker_byoc.region.client import make_client  # noqa: PLC0415 - needs botocore

        if service not in self._clients:
            self._clients[service] = make_client(
                service,
                self._url,
                self._keys,
                region=self.region,
                user_agent_extra=FOLLOWER,
            )
        return self._clients[service]


class ServiceModels:
    """AWS's service models, as the region has them."""

    def shape(self, service: str, operation: str) -> StructureShape | None:
        with target.explained_imports():
            from sagemaker_byoc.region.wire import models  # noqa: PLC0415 - needs botocore
        return models.service_model(service).operation_model(operation).input_shape

    def report(self, request: Mapping[str, Any], shape: StructureShape) -> list[str]:
        from botocore.validate import ParamValidator  # noqa: PLC0415 - slow

        return list(ParamValidator().validate(dict(request), shape).generate_report().splitlines())

    def broken(self, shape: Shape, value: Any) -> Iterator[tuple[str, Any]]:
        from sagemaker_byoc.region.wire import models  # noqa: PLC0415 - needs botocore

        return models.broken(shape, value)


def in_region(arguments: argparse.Namespace, shared: Shared) -> Here:
    """Return the region that runs on this machine."""
    found = target.find(arguments)
    status = found.status()
    account = Account(id=status["account"], region=status["region"])
    return Here(
        RegionCaller(found.url, account.region, found.keys),
        Place(
            region=account.region,
            account=account.id,
            image=shared.image,
            digest=_local_digest(shared, status, account),
            role=role_arn(shared.role or account.role, account.region, account.id),
            commit=_revision(shared),
            bucket=shared.bucket,
            endpoint=found.url,
        ),
    )


def in_aws(shared: Shared) -> Here:
    """Return AWS, for settings that `checks.check` found nothing wrong with."""
    cloud = session.Cloud(session.resolve_region(shared.region or None))
    role = role_of(shared)
    pinned = image.pin(shared, shared.image, cloud)
    # Without credentials a plan can still be printed, if nothing in it needs the account.
    needs_account = not (shared.bucket and role.startswith("arn:"))
    account = session.resolve_account(cloud, None) if needs_account else ""
    return Here(
        cloud,
        Place(
            region=cloud.region,
            account=account,
            image=pinned.image,
            digest=pinned.digest,
            cuda=pinned.cuda,
            role=role_arn(role, cloud.region, account),
            commit=_revision(shared),
            bucket=shared.bucket,
        ),
    )


def _local_digest(shared: Shared, status: Mapping[str, Any], account: Account) -> str:
    """Raise SettingsError if neither the region's registry nor its engine has the image."""
    with target.explained_imports():
        from sagemaker_byoc.region.composition import make_images  # noqa: PLC0415
        from sagemaker_byoc.region.services.ecr.ecr import Registry  # noqa: PLC0415
        from sagemaker_byoc.region.wire.operations import AwsError  # noqa: PLC0415
    state = Path(status["state"])
    pushed = Registry(state=state, account=account, url=status["url"]).pushed
    try:
        return make_images(status["engine"], state, pushed).resolve(shared.image).digest
    except AwsError as error:
        raise SettingsError(
            f"{shared.where}: image: {error.message}",
            hint="Or name an image that the region has: --image",
        ) from error


def _revision(shared: Shared) -> str:
    return labels.read_commit(shared.folder).revision
