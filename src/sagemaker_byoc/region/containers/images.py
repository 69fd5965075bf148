"""From the image URI of a request to what the engine of this region runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import image_reference
from sagemaker_byoc.region.containers.specs import Image, PushedImage
from sagemaker_byoc.region.wire.aws_errors import AwsError


@dataclass(frozen=True, slots=True)
class Reference:
    """`HOST/REPOSITORY:TAG@DIGEST`, of which only the repository must be there."""

    host: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, uri: str) -> Reference:
        """Raises AwsError for what is not an image's name."""
        try:
            found = image_reference.parse(uri)
        except RequestError as error:
            raise AwsError("ValidationException", f"{error.sentence}. {error.hint}") from error
        tag = found.tag or ("" if found.digest else image_reference.DEFAULT_TAG)
        return cls(found.registry, found.repository, tag, found.digest)

    @property
    def is_ours(self) -> bool:
        """Whether its host is one that this region plays."""
        host = self.host.rpartition(":")[0] or self.host
        return image_reference.ecr_host(self.host) is not None or image_reference.is_loopback(host)

    @property
    def local_name(self) -> str:
        """Without the host."""
        return self.repository + (f":{self.tag}" if self.tag else f"@{self.digest}")

    def pinned(self, digest: str) -> str:
        """The name that means one image forever."""
        host = f"{self.host}/" if self.host else ""
        return f"{host}{self.repository}@{digest}"


class PullError(AwsError):
    """The registry has the image, and the engine could not get it."""


class Images(Protocol):
    def resolve(self, uri: str) -> Image:
        """Return the image of that name at once, without a pull.

        Raise AwsError (ValidationException, with the hint) if there is none.
        """

    def bring(
        self,
        image: Image,
        *,
        say: Callable[[str], None] = lambda _text: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Pull the image unless the engine has it; this can take many minutes.

        `say` gets how far it has come. Return early once `is_stopped` returns True.
        Raise PullError.
        """


Pushed: TypeAlias = Callable[[Reference], PushedImage | None]
"""Looks an image up in the region's registry, by digest or by tag."""


def unknown_image(uri: str, known: str, hint: str) -> AwsError:
    return AwsError("ValidationException", f"Cannot find image {uri}: {known}. {hint}")
