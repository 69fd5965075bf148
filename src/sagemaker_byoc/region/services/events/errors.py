"""AWS's errors of EventBridge."""

from __future__ import annotations

from sagemaker_byoc.region.wire.operations import AwsError


def invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)


def not_here(what: str, hint: str) -> AwsError:
    """Refuse a part of EventBridge that this region lacks; it is never ignored."""
    return invalid(f"{what} is not supported by this local region. {hint}.")


def not_found(text: str) -> AwsError:
    return AwsError("ResourceNotFoundException", text)


def exists(text: str) -> AwsError:
    return AwsError("ResourceAlreadyExistsException", text)


def limit_exceeded() -> AwsError:
    return AwsError(
        "LimitExceededException", "The requested resource exceeds the maximum number allowed."
    )
