"""AWS's published service models, as botocore carries them; each is loaded when first asked for."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

_LOADER = Loader()
_METADATA = re.compile(r'"metadata"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_HEAD = 8192
"""Characters of a model in which its metadata is complete; they are the first member."""


@cache
def service_model(name: str) -> ServiceModel:
    """The newest model of `name`, botocore's word for the service (sagemaker, logs, …)."""
    return ServiceModel(_LOADER.load_service_model(name, "service-2"), name)


def name_of_target(prefix: str) -> str:
    """Return botocore's name of the JSON service whose X-Amz-Target has `prefix`, or `prefix`."""
    found = [name for name, facts in _metadata().items() if facts.get("targetPrefix") == prefix]
    return found[0] if found else prefix


def name_of_scope(scope: str) -> str:
    """Return botocore's name of the service that signs as `scope`; `scope` if it is not one."""
    found = _names_of_scope(scope)
    return found[0] if len(found) == 1 else scope


def rest_operation(scope: str, method: str, path: str) -> tuple[str, str]:
    """Return the service and the operation of a REST request; several services sign as
    `sagemaker`. What cannot be told is `scope`, and an empty text.
    """
    for name in _names_of_scope(scope):
        model = service_model(name)
        for operation in model.operation_names:
            http = model.operation_model(operation).http
            if http.get("method") == method and _matches(http.get("requestUri", ""), path):
                return name, operation
    return name_of_scope(scope), ""


def _names_of_scope(scope: str) -> list[str]:
    return [
        name
        for name, facts in _metadata().items()
        if facts.get("signingName", facts.get("endpointPrefix")) == scope
    ]


def _matches(template: str, path: str) -> bool:
    if template in {"", "/"}:
        return False
    pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template.partition("?")[0]))
    return re.fullmatch(pattern, path) is not None


@cache
def _metadata() -> dict[str, dict[str, Any]]:
    """The metadata of every service that botocore knows. For refusals: it takes a while."""
    found = {}
    for name in _LOADER.list_available_services("service-2"):
        version = max(_LOADER.list_api_versions(name, "service-2"))
        for folder in _LOADER.search_paths:
            path = Path(folder, name, version, "service-2.json.gz")
            if path.is_file():
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    head = _METADATA.search(file.read(_HEAD))
                if head is not None:
                    found[name] = json.loads(head[1])
    return found
