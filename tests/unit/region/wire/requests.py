"""Requests and answers of the wire's tests."""

from __future__ import annotations

import asyncio

from sagemaker_byoc.region.wire.http import Request


class Body:
    def __init__(self, data):
        self.data = data

    async def __aiter__(self):
        yield self.data

    async def read(self, limit):
        return self.data


def request(method="POST", target="/", *, query="", body=b"", **headers):
    """Header names with underscores for hyphens."""
    return Request(
        method=method,
        target=target,
        query_string=query,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=Body(body),
        id="request-1",
    )


def answer(handler, asked):
    return asyncio.run(handler(asked))


def until(connection, text):
    """Return what has arrived, once it holds `text`; fail if the connection ends before."""
    data = b""
    while text not in data:
        more = connection.recv(65536)
        assert more, data
        data += more
    return data
