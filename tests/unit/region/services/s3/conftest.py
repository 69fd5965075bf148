"""S3 without a server: requests as the wire would make them."""

from __future__ import annotations

import asyncio
import os
from xml.etree import ElementTree as ET

import pytest

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.s3.s3 import S3
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.wire.http import Request
from sagemaker_byoc.region.wire.operations import AwsError, EntityTooLargeError
from sagemaker_byoc.region.wire.xml import render_s3_error


class Body:
    """Comes in pieces of `piece` bytes; breaks off after `breaks`."""

    def __init__(self, data, piece=1 << 16, breaks=None):
        self._data, self._piece, self._breaks = data, piece, breaks

    async def __aiter__(self):
        for start in range(0, len(self._data), self._piece):
            if self._breaks is not None and start >= self._breaks:
                raise ConnectionError("the client left")
            yield self._data[start : start + self._piece]
            await asyncio.sleep(0)

    async def read(self, limit):
        if len(self._data) > limit:
            raise EntityTooLargeError(limit)
        return self._data


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def xml(self):
        return ET.fromstring(self.body)

    @property
    def code(self):
        return self.xml.findtext("Code")


async def collect(response):
    body = response.body
    if isinstance(body, bytes):
        return body
    pieces = [piece async for piece in body]
    await body.aclose()
    return b"".join(pieces)


class Server:
    def __init__(self, store):
        self.store = store
        self.s3 = S3(store, Account())

    def __call__(self, method, target, body=b"", query="", headers=None, **more):
        """`headers` is taken as it is."""
        if headers is None:
            headers = {name.replace("_", "-"): value for name, value in more.items()}
        if isinstance(body, bytes):
            headers.setdefault("content-length", str(len(body)))
            body = Body(body)
        request = Request(
            method=method, target=target, query_string=query, headers=headers, body=body, id="ID"
        )

        async def run():
            try:
                response = await self.s3(request)
            except AwsError as error:  # as the router does
                response = render_s3_error(request, error)
            return Answer(response, await collect(response))

        return asyncio.run(run())


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Without the waits for the disk, of which no test here could see an effect."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    server = Server(ObjectStore(tmp_path / "s3"))
    server.store.create_bucket("bucket")
    yield server
    server.s3.close()
