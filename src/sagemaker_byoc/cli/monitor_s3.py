"""S3 for `byoc monitor`: the local region where one is named, else AWS."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from sagemaker_byoc.cli import target
from sagemaker_byoc.cloud.calls import Call
from sagemaker_byoc.cloud.session import Cloud, resolve_region
from sagemaker_byoc.local.errors import RequestError

_SPOOLED = 16 << 20
_CHUNK = 1 << 20

Caller = Callable[[str, dict[str, Any]], dict[str, Any]]


def caller() -> Caller:
    """How S3 is asked: by operation and parameters. Errors are those of the room that asks."""
    url = os.environ.get("BYOC_REGION_URL")
    if url:
        client = target.Target(url.rstrip("/"), "$BYOC_REGION_URL").client("s3")

        def ask(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
            with target.refusals():
                answer: dict[str, Any] = getattr(client, Call("s3", operation).method)(**parameters)
                return answer

        return ask
    cloud = Cloud(resolve_region(None))
    return lambda operation, parameters: cloud.call(Call("s3", operation, parameters))


class S3:
    """The store that the monitor is handed. No client is made before one is needed."""

    def __init__(self, make_caller: Callable[[], Caller] = caller) -> None:
        self._make = make_caller
        self._caller: Caller | None = None

    def names(self, uri: str) -> Iterator[str]:
        bucket, key = _split(uri)
        parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": key}
        below = key if not key or key.endswith("/") else f"{key}/"
        while True:
            page = self._ask("ListObjectsV2", parameters)
            for found in page.get("Contents", ()):
                name = str(found["Key"])
                if name == key or (name.startswith(below) and not name.endswith("/")):
                    yield f"s3://{bucket}/{name}"
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def open(self, uri: str) -> BinaryIO:
        bucket, key = _split(uri)
        body = self._ask("GetObject", {"Bucket": bucket, "Key": key})["Body"]
        copy = tempfile.SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115 - the caller closes
        try:
            with target.refusals():
                while chunk := body.read(_CHUNK):
                    copy.write(chunk)
        except BaseException:
            copy.close()
            raise
        finally:
            body.close()
        copy.seek(0)
        return copy  # type: ignore[return-value] # a BinaryIO in all but its base class

    def put(self, uri: str, data: bytes) -> None:
        bucket, key = _split(uri)
        self._ask("PutObject", {"Bucket": bucket, "Key": key, "Body": data})

    def _ask(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if self._caller is None:
            self._caller = self._make()
        return self._caller(operation, parameters)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise RequestError(f"{uri!r} names no bucket", cure="Write s3://BUCKET/PREFIX")
    return bucket, key
