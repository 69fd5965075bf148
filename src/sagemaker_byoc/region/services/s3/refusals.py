"""What S3 has a header for and this store does not: refused by name, never lost in silence."""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.region.services.s3 import object_properties
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.s3_errors import invalid_argument, unsupported

_SSE_C = f"{object_properties.SSE}-customer-"
_REFUSED = (
    _SSE_C,
    f"x-amz-copy-source-{_SSE_C.removeprefix('x-amz-')}",
    "x-amz-object-lock-",
    "x-amz-object-annotation-",
    "x-amz-write-offset-bytes",
    "x-amz-mfa",
    *(checksums.PREFIX + name for name in checksums.UNKNOWN),
)
"""Starts of headers that S3 has a meaning for and this store does not."""


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what would be lost in silence, whichever operation it is sent to."""
    for name in headers:
        if name.startswith(_REFUSED):
            if name.startswith(_SSE_C) and object_properties.SSE in headers:
                raise invalid_argument(
                    "Server Side Encryption with Customer provided key is incompatible with the"
                    " encryption method specified",
                    object_properties.SSE,
                    headers[object_properties.SSE],
                )
            raise unsupported(name)
