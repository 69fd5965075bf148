"""AWS's words for what a hosting request can't have."""

from __future__ import annotations

from sagemaker_byoc.region.wire.errors import AwsError

MODEL = "model"
CONFIG = "endpoint configuration"
ENDPOINT = "endpoint"


def invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)


def not_here(what: str, hint: str) -> AwsError:
    """A part of SageMaker that this region does not have; it is refused, never ignored."""
    return invalid(f"{what} is not supported by this local region. {hint}.")


def could_not_find(kind: str, arn: str) -> AwsError:
    return invalid(f'Could not find {kind} "{arn}".')


def already_exists(kind: str, arn: str) -> AwsError:
    """SDKs test for this text to go on with what is there."""
    return invalid(f'Cannot create already existing {kind} "{arn}".')


def in_progress(arn: str) -> AwsError:
    return invalid(f'Cannot update in-progress endpoint "{arn}".')
