"""Errors of the registry: the codes of the distribution specification, the words of ECR."""

from __future__ import annotations

from sagemaker_byoc.region.wire.aws_errors import AwsError


class RegistryError(AwsError):
    """An error with a code of the distribution specification."""


def blob_unknown(digest: str) -> RegistryError:
    return RegistryError("BLOB_UNKNOWN", f"blob {digest} is unknown to the repository", status=404)


def digest_invalid(what: str) -> RegistryError:
    return RegistryError("DIGEST_INVALID", what)


def no_repository(name: str, registry: str) -> AwsError:
    return AwsError(
        "RepositoryNotFoundException",
        f"The repository with name '{name}' does not exist in the registry with id '{registry}'",
    )


def over_the_wire(error: AwsError) -> RegistryError:
    """Return an error of the ecr API as ECR's registry answers it."""
    if isinstance(error, RegistryError):
        return error
    code, status = _CODES.get(error.code, ("UNKNOWN", error.status))
    return RegistryError(code, error.message, status=status)


_CODES = {
    "RepositoryNotFoundException": ("NAME_UNKNOWN", 404),
    "ImageTagAlreadyExistsException": ("TAG_INVALID", 400),
    "ImageNotFoundException": ("MANIFEST_UNKNOWN", 404),
    "LayersNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 404),
    "ReferencedImagesNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 404),
    "ImageDigestDoesNotMatchException": ("DIGEST_INVALID", 400),
    "InvalidParameterException": ("MANIFEST_INVALID", 400),
}
