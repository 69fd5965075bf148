"""What the registry refuses: the codes of the distribution specification, the words of ECR."""

from __future__ import annotations

from sagemaker_byoc.region.wire.errors import AwsError


class RegistryError(AwsError):
    """`headers` go back with it; `challenge` is that of WWW-Authenticate."""

    def __init__(self, code: str, message: str, *, status: int = 400, challenge: str = "") -> None:
        super().__init__(code, message, status=status)
        self.headers = {"WWW-Authenticate": challenge} if challenge else {}


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
    """An error of the ecr API as ECR's registry answers it."""
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
