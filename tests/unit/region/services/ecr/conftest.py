"""A registry without a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os

import pytest
from tests.unit.region.services.s3.conftest import Answer, Body, collect

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.ecr.ecr import Registry
from sagemaker_byoc.region.wire.http import Request

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Client:
    """Client of the registry (by calling it) and of the API (by `api`)."""

    def __init__(self, state):
        self.registry = Registry(state=state, account=Account(), url="http://127.0.0.1:5000")
        self.operations = self.registry.operations()
        token = self.api("GetAuthorizationToken")["authorizationData"][0]["authorizationToken"]
        self.authorization = f"Basic {token}"

    def api(self, operation, **parameters):
        return self.operations[operation](parameters)

    def __call__(self, method, target, body=b"", query="", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"host": "127.0.0.1:5000", "authorization": self.authorization, **headers}
        if isinstance(body, bytes):
            body = Body(body)
        request = Request(
            method=method, target=target, query_string=query, headers=headers, body=body, id="ID"
        )

        async def run():
            response = await self.registry.handler(request)
            return Answer(response, await collect(response))

        return asyncio.run(run())

    def push_blob(self, name, data):
        digest = digest_of(data)
        answer = self("POST", f"/v2/{name}/blobs/uploads/", data, query=f"digest={digest}")
        assert answer.status == 201, answer.body
        return {"mediaType": "any/blob", "size": len(data), "digest": digest}

    def push(self, name, tag, media_type=DOCKER, layers=(b"layer",)):
        """An image; its digest."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self.push_blob(name, b"{}"),
            "layers": [self.push_blob(name, layer) for layer in layers],
        }
        data = json.dumps(manifest).encode()
        answer = self("PUT", f"/v2/{name}/manifests/{tag}", data, content_type=media_type)
        assert answer.status == 201, answer.body
        assert answer.headers["Docker-Content-Digest"] == digest_of(data)
        return digest_of(data)


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Without the waits for the disk, of which no test here could see an effect."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    client = Client(tmp_path)
    client.api("CreateRepository", repositoryName="team/model")
    yield client
    client.registry.close()


def error(answer):
    (problem,) = json.loads(answer.body)["errors"]
    return answer.status, problem["code"], problem["message"]


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
