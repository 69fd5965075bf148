"""An image's name, as this room refuses it."""

from __future__ import annotations

from sagemaker_byoc.contract.errors import (
    ContractError,
    RequestError,
)
from sagemaker_byoc.host import image_reference
from sagemaker_byoc.host.image_reference import DEFAULT_TAG, TAG, EcrHost, Reference, ecr_host

__all__ = ["DEFAULT_TAG", "TAG", "EcrHost", "Reference", "ecr_host", "parse"]


def parse(text: str) -> Reference:
    """Raise RequestError for what no registry takes."""
    try:
        return image_reference.parse(text)
    except ContractError as error:
        raise RequestError(error.what, hint=error.hint) from error
