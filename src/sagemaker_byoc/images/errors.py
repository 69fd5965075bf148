"""The errors of images and registries.

ImageError              an image that cannot be built, read or pushed as it is
├── RegistryError       a registry refused, or its answer makes no sense
│   └── TrustError      the registry cannot prove its identity
└── HostileError        an archive that must not be read any further
"""

from __future__ import annotations

from sagemaker_byoc.contract.errors import ByocError


class ImageError(ByocError):
    """An image that cannot be built, read or pushed as it is."""


class RegistryError(ImageError):
    """`status` is the HTTP status of the answer, 0 if there was none."""

    def __init__(self, what: str, *, hint: str, status: int = 0) -> None:
        self.status = status
        super().__init__(what, hint=hint)


class TrustError(RegistryError):
    """Never retried, and never circumvented."""


class HostileError(ImageError):
    """Larger, longer or deeper than any image has to be, or not what it claims to be."""
