"""S3 for `byoc monitor`: in the local region if one is named, else in AWS."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Self

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal.progress import Progress
from sagemaker_byoc.cloud.session import Cloud, resolve_region
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.variables import REGION_URL
from sagemaker_byoc.host.aws_calls import Call

_CHUNK = 1 << 20

Caller = Callable[[str, dict[str, Any]], dict[str, Any]]


def caller() -> Caller:
    """Return what makes calls of S3, by operation and parameters."""
    url = os.environ.get(REGION_URL)
    if url:
        client = target.Target(url.rstrip("/"), f"${REGION_URL}").client("s3")

        def ask(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
            with target.refusals():
                answer: dict[str, Any] = getattr(client, Call("s3", operation).method)(**parameters)
                return answer

        return ask
    cloud = Cloud(resolve_region(None))
    return lambda operation, parameters: cloud.call(Call("s3", operation, parameters))


class S3:
    """The store that the monitor reads and writes; a context, in which progress is shown.

    The client is made when it is first needed.
    """

    def __init__(self, make_caller: Callable[[], Caller] = caller) -> None:
        self._make = make_caller
        self._caller: Caller | None = None
        self._progress = Progress("read from S3")
        self._sizes: dict[str, int] = {}
        self._expected: set[str] = set()
        self._copy: tuple[str, BinaryIO] | None = None
        """The object that was read last, kept because its first bytes are read once more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.finish()
        self._forget()

    def _forget(self) -> None:
        if self._copy is not None:
            self._copy[1].close()
        self._copy = None

    def names(self, uri: str) -> Iterator[str]:
        bucket, key = _split(uri)
        parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": key}
        below = key if not key or key.endswith("/") else f"{key}/"
        while True:
            page = self._ask("ListObjectsV2", parameters)
            for found in page.get("Contents", ()):
                name = str(found["Key"])
                if name == key or (name.startswith(below) and not name.endswith("/")):
                    self._sizes[f"s3://{bucket}/{name}"] = int(found.get("Size", 0))
                    yield f"s3://{bucket}/{name}"
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def expect(self, names: Iterable[str]) -> None:
        new = {*names} - self._expected
        self._expected |= new
        self._progress.expect(sum(self._sizes.get(name, 0) for name in new))

    def open(self, uri: str) -> BinaryIO:
        if self._copy is None or self._copy[0] != uri:
            self._forget()
            self._copy = uri, self._fetched(uri)
        descriptor = os.dup(self._copy[1].fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.fdopen(descriptor, "rb")

    def _fetched(self, uri: str) -> BinaryIO:
        bucket, key = _split(uri)
        body = self._ask("GetObject", {"Bucket": bucket, "Key": key})["Body"]
        copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - until another one is read
        try:
            with target.refusals():
                while chunk := body.read(_CHUNK):
                    copy.write(chunk)
                    self._progress.advance(len(chunk))
        except BaseException:
            copy.close()
            raise
        finally:
            body.close()
        return copy

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
        raise RequestError(f"{uri!r} names no bucket", hint="Write s3://BUCKET/PREFIX")
    return bucket, key
