"""Who makes the calls of a plan: AWS with the user's credentials, or a region on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cloud import calls
from sagemaker_byoc.cloud.errors import AwsError
from sagemaker_byoc.cloud.session import Cloud
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.host.request_log import note_call
from sagemaker_byoc.launch.errors import RefusedError
from sagemaker_byoc.region.core.credentials import Keys
from sagemaker_byoc.region.core.polling import FOLLOWER


class AwsCaller:
    """Failures other than a service's no are CloudErrors."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @property
    def region(self) -> str:
        return self._cloud.region

    def call(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._cloud.call(calls.Call(service, operation, parameters))
        except AwsError as error:
            raise RefusedError(error.code, error.what, hint=error.hint) from error


class RegionCaller:
    """Of the region at `url`, by the same operations."""

    def __init__(self, url: str, region: str, keys: Keys) -> None:
        self.region = region
        self._url = url
        self._keys = keys
        self._clients: dict[str, Any] = {}

    def call(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        with target.explained_imports():
            from botocore import xform_name  # noqa: PLC0415 - takes longer than most commands
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        note_call(service, operation, self._url)
        try:
            method = getattr(self._client(service), xform_name(operation))
            answer: dict[str, Any] = method(**parameters)
        except ClientError as error:
            found = error.response.get("Error", {})
            raise RefusedError(
                str(found.get("Code", "")),
                f"{service} {operation}: {found.get('Message') or error}",
                hint="Mend what it names; `byoc ps` shows what the region has",
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
