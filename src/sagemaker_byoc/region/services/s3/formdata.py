"""The body of a browser's form, `multipart/form-data`, read as it arrives."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from sagemaker_byoc.region.services.s3.store.s3_errors import S3Error
from sagemaker_byoc.region.wire.http import Request

_BOUNDARY = re.compile(
    r'multipart/form-data\s*;.*?boundary=("?)(?P<it>[^";,]{1,70})\1', re.IGNORECASE
)
_PARAMETER = r'\b{name}="((?:[^"\\]|\\.)*)"'
_NAME, _FILENAME = (re.compile(_PARAMETER.format(name=name)) for name in ("name", "filename"))
_MOST_FIELDS = 20 << 10
"""Bytes before the file (S3 user guide, "browser-based uploads using POST")."""


class Form:
    """First its `fields`, then the bytes of its file, by iteration; a Body."""

    def __init__(self, request: Request) -> None:
        """Raises S3Error PreconditionFailed."""
        found = _BOUNDARY.match(request.headers.get("content-type", ""))
        if found is None:
            raise S3Error(
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
                status=412,
                Condition="Bucket POST must be of the enclosure-type multipart/form-data",
            )
        self.filename = ""
        self._delimiter = b"\r\n--" + found["it"].encode("latin-1")
        self._chunks = aiter(request.body)
        self._buffer = bytearray(b"\r\n")  # the first delimiter stands at the start of the body
        self._left = _MOST_FIELDS

    async def fields(self) -> dict[str, str]:
        """Everything before the file, names in lower case; raises S3Error."""
        fields: dict[str, str] = {}
        await self._until(self._delimiter)
        while (await self._until(b"\r\n")).strip() != b"--":
            # A part without headers starts with the empty line itself.
            head = (await self._until(b"\r\n\r\n")).decode("utf-8", "replace")
            name = _NAME.search(head)
            if name is None:
                raise _malformed()
            if name[1].lower() == "file":
                filename = _FILENAME.search(head)
                self.filename = re.split(r"[/\\]", filename[1])[-1] if filename else ""
                return fields
            value = await self._until(self._delimiter)
            fields[name[1].lower()] = value.decode("utf-8", "replace")
        raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (end := self._buffer.find(self._delimiter)) < 0:
            sure = len(self._buffer) - len(self._delimiter)
            if sure > 0:
                yield bytes(self._buffer[:sure])
                del self._buffer[:sure]
            if not await self._fill():
                raise _malformed()
        if end:
            yield bytes(self._buffer[:end])
        async for _ in self._chunks:
            """What comes behind the file is not read."""

    async def read(self, limit: int) -> bytes:
        raise NotImplementedError(f"a form's file is streamed, not read ({limit})")

    async def _until(self, mark: bytes) -> bytes:
        """What comes before `mark`, which is taken away too."""
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > self._left:
                raise _too_large()
            if not await self._fill():
                if mark == b"\r\n" and self._buffer.startswith(b"--"):
                    return b"--"  # the last delimiter may end the body
                raise _malformed()
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        self._left -= end
        if self._left < 0:
            raise _too_large()
        return found

    async def _fill(self) -> bool:
        chunk = await anext(self._chunks, b"")
        self._buffer += chunk
        return bool(chunk)


def _malformed() -> S3Error:
    return S3Error(
        "MalformedPOSTRequest",
        "The body of your POST request is not well-formed multipart/form-data.",
    )


def _too_large() -> S3Error:
    return S3Error(
        "MaxPostPreDataLengthExceededError",
        "Your POST request fields preceding the upload file were too large.",
        MaxPostPreDataLengthBytes=str(_MOST_FIELDS),
    )
