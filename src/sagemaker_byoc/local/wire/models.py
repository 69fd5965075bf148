"""AWS's published service models, as botocore carries them; each is loaded when first asked for."""

from __future__ import annotations

from functools import cache

from botocore.loaders import Loader
from botocore.model import ServiceModel

_LOADER = Loader()


@cache
def service_model(name: str) -> ServiceModel:
    """The newest model of `name`, botocore's word for the service (sagemaker, logs, …)."""
    return ServiceModel(_LOADER.load_service_model(name, "service-2"), name)
