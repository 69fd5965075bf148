"""One blob to a registry: asked for first, sent whole, sent again where the connection broke.

In one request and not in parts: ECR takes the first part of an upload and throws the others away
(aws/containers-roadmap#2831), and no two registries keep the same of a part that broke off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from sagemaker_byoc.images.errors import RegistryError
from sagemaker_byoc.images.push.patience import Patience
from sagemaker_byoc.images.push.slices import Slice
from sagemaker_byoc.images.registry import Registry


class How(StrEnum):
    THERE = "there"
    """It was there already."""
    MOUNTED = "mounted"
    """Taken over from another repository of the registry."""
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Uploader:
    registry: Registry
    patience: Patience
    sent: Callable[[int], None]
    """Hears of bytes on their way; of those that are sent again, again."""

    def has(self, digest: str, size: int | None = None) -> bool:
        """With a `size` it has to be of just that."""
        found = self.patience(lambda: self.registry.blob_size(digest))
        return found is not None and (size is None or found in {size, -1})

    def mount(self, digest: str, origin: str) -> bool:
        return self.patience(lambda: self.registry.begin_upload(digest, origin)) is None

    def send(self, content: Slice, digest: str) -> How:
        tried = False

        def attempt() -> How:
            nonlocal tried
            if self.registry.has_blob(digest):
                return How.SENT if tried else How.THERE
            tried = True
            place = self.registry.begin_upload()
            assert place is not None
            self.registry.finish_upload(place, digest, _Watched(content, self), content.size)
            return How.SENT

        return self.patience(attempt)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A slice that counts as it goes out, and ends where the push is stopped."""

    content: Slice
    uploader: Uploader

    def __iter__(self) -> Iterator[bytes]:
        for data in self.content:
            self.uploader.patience.check()
            yield data
            self.uploader.sent(len(data))


def explain_upload(error: RegistryError, digest: str) -> RegistryError:
    """The refusals that say something about the image, in words for its owner."""
    if "DIGEST_INVALID" in error.what:
        return RegistryError(
            f"the registry counts other bytes than {digest}: {error.what}",
            hint="The image is damaged where it lies: build or save it anew",
            status=error.status,
        )
    return error
