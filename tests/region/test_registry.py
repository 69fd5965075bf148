"""The registry through the Docker engine itself, and ecr through an unmodified client."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
import urllib.request
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.region.conftest import peak_memory

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def ecr(region):
    return region.client("ecr")


@pytest.fixture
def docker(tmp_path):
    """The client, with a separate configuration."""
    variables = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "docker")}

    def run(*arguments, data=None, check=True):
        command = [os.environ.get("DOCKER", "docker"), *arguments]
        done = subprocess.run(
            command, input=data, capture_output=True, env=variables, timeout=300, check=False
        )
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == 0 or not check, text
        return text

    return run


@pytest.fixture
def image(docker):
    """An image with 32 MiB that no other image has."""
    name = f"byoc-test-{uuid.uuid4().hex[:12]}"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("noise")
        member.size = 32 << 20
        tar.addfile(member, io.BytesIO(os.urandom(member.size)))
    docker("import", "-", name, data=data.getvalue())
    yield name
    docker("rmi", "--force", name, check=False)


def log_in(ecr, docker, host):
    (data,) = ecr.get_authorization_token()["authorizationData"]
    assert data["proxyEndpoint"] == f"http://{host}"
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    docker("login", "--username", user, "--password-stdin", host, data=password.encode())


def test_repositories_through_the_client(ecr, region):
    made = ecr.create_repository(repositoryName="plain/repo")["repository"]
    assert made["repositoryUri"] == region.url.removeprefix("http://") + "/plain/repo"
    with pytest.raises(ecr.exceptions.RepositoryAlreadyExistsException):
        ecr.create_repository(repositoryName="plain/repo")
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_images(repositoryName="plain/nope")
    with pytest.raises(ClientError):
        ecr.create_repository(repositoryName="Upper")
    assert ecr.describe_images(repositoryName="plain/repo")["imageDetails"] == []
    ecr.delete_repository(repositoryName="plain/repo")


@pytest.mark.docker
def test_push_and_pull(ecr, docker, image, region):
    host = region.url.removeprefix("http://")
    uri = f"{host}/team/{image}:v1"
    docker("tag", image, uri)
    try:
        assert "no basic auth credentials" in docker("push", uri, check=False)
        log_in(ecr, docker, host)
        text = f"name unknown: The repository with name 'team/{image}' does not exist in the"
        assert text in docker("push", uri, check=False)
        ecr.create_repository(repositoryName=f"team/{image}", imageTagMutability="IMMUTABLE")
        pushed = docker("push", uri)
        (detail,) = ecr.describe_images(repositoryName=f"team/{image}")["imageDetails"]
        assert detail["imageDigest"] in pushed
        assert detail["imageTags"] == ["v1"]
        assert detail["imageManifestMediaType"] == DOCKER
        assert detail["imageSizeInBytes"] > 32 << 20
        docker("rmi", "--force", uri, image)
        docker("pull", uri)
        (config,) = json.loads(docker("image", "inspect", uri))
        assert config["RepoDigests"][0].endswith(detail["imageDigest"])
        found = ecr.batch_get_image(
            repositoryName=f"team/{image}",
            imageIds=[{"imageTag": "v1"}],
            acceptedMediaTypes=[DOCKER],
        )
        assert found["images"][0]["imageId"]["imageDigest"] == detail["imageDigest"]
        digest = json.loads(found["images"][0]["imageManifest"])["config"]["digest"]
        layer = {"repositoryName": f"team/{image}", "layerDigest": digest}
        with urllib.request.urlopen(ecr.get_download_url_for_layer(**layer)["downloadUrl"]) as file:
            assert json.load(file)["architecture"] == config["Architecture"]
    finally:
        docker("rmi", "--force", uri, check=False)


@pytest.mark.docker
def test_an_immutable_tag_is_not_overwritten(ecr, docker, image, region):
    host = region.url.removeprefix("http://")
    repository = f"fixed-{image}"
    uri = f"{host}/{repository}:v1"
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    log_in(ecr, docker, host)
    try:
        docker("tag", image, uri)
        docker("push", uri)
        empty = io.BytesIO()
        with tarfile.open(fileobj=empty, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("other"), io.BytesIO())
        docker("import", "-", uri, data=empty.getvalue())
        refused = docker("push", uri, check=False)
        assert f"The image tag 'v1' already exists in the '{repository}' repository" in refused
    finally:
        images = docker("images", "--quiet", f"{host}/{repository}").split()
        docker("rmi", "--force", *images, check=False)


@pytest.mark.docker
def test_blobs_are_shared_by_repositories_and_memory_does_not_grow(ecr, docker, image, region):
    """A second repository mounts the layer instead of taking it again."""
    host = region.url.removeprefix("http://")
    log_in(ecr, docker, host)
    uris = [f"{host}/{side}-{image}:v1" for side in ("a", "b")]
    try:
        before = peak_memory()
        for uri in uris:
            ecr.create_repository(repositoryName=uri.partition("/")[2].removesuffix(":v1"))
            docker("tag", image, uri)
            text = docker("push", uri)
        assert "Mounted from" in text
        assert peak_memory() - before < 24 << 20
        assert len(list(Path(region.state, "registry/uploads").iterdir())) == 0
    finally:
        docker("rmi", "--force", *uris, check=False)
