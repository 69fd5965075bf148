"""Images of the Docker engine's region: what is pulled, in which form, and why a pull failed.

Against a docker client that remembers what it was asked; real pulls are in tests/region/test_reach.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.unit.local_jobs.conftest import House

from sagemaker_byoc.contract.stored_image import DOCKER_MANIFEST
from sagemaker_byoc.local.images import DockerImages, PushedImage, RecordedImages
from sagemaker_byoc.local.wire.errors import AwsError

DIGEST = "sha256:" + "0f" * 32
HOST = "127.0.0.1:5000"
AWS = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
CLIENT = """#!/bin/sh
echo "$*" >> {folder}/asked
case "$*" in
  *"image inspect"*) cat {folder}/inspected 2>/dev/null || {{ echo "No such image" >&2; exit 1; }};;
  *pull*) cat "$2/config.json" >> {folder}/configs
    if [ -s {folder}/failure ]; then cat {folder}/failure >&2; exit 1; fi;;
esac
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    """The folder of a client that has no image, and gets what it is asked to pull."""
    program = tmp_path / "docker"
    program.write_text(CLIENT.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(program))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return tmp_path


def images(media_type=DOCKER_MANIFEST.value, manifest=None, architecture="amd64"):
    found = PushedImage(
        digest=DIGEST,
        media_type=media_type,
        manifest=manifest or {},
        architecture=architecture,
        host=HOST,
        token="dG9rZW4=",
    )
    return DockerImages(lambda _reference: found)


def asked(client, word):
    return [line for line in (client / "asked").read_text().splitlines() if word in line]


@pytest.mark.parametrize(
    "uri", [f"{AWS}/mine:1", f"{AWS}/mine@{DIGEST}", f"{HOST}/mine:1", f"{HOST}/mine@{DIGEST}"]
)
def test_it_is_pulled_by_its_digest_with_the_registrys_own_token(client, uri):
    image = images().resolve(uri)
    assert image.name == f"{HOST}/mine@{DIGEST}"
    assert image.resolved.endswith(f"/mine@{DIGEST}")
    (line,) = asked(client, "pull")
    assert line.endswith(f"pull --quiet {HOST}/mine@{DIGEST}")
    assert json.loads((client / "configs").read_text())["auths"] == {HOST: {"auth": "dG9rZW4="}}


def test_a_digest_is_known_without_a_pull(client):
    """`byoc launch --local --print` changes nothing."""
    assert images().digest_of(f"{AWS}/mine:1") == DIGEST
    assert not (client / "asked").exists()


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("write /var/lib/docker/tmp/x: no space left on device", "docker system df"),
        ("manifest for x not found: manifest unknown: Requested image not found", "Push it again"),
        ("unknown blob", "Push it again"),
        ("unauthorized: authentication required", "start the region again"),
        ("no basic auth credentials", "start the region again"),
        ("no matching manifest for linux/amd64 in the manifest list entries", "--platform"),
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", "127.0.0.1"),
        ("net/http: TLS handshake timeout", "docker info"),
        ("something else", "docker info"),
    ],
)
def test_a_pull_that_fails_keeps_dockers_words(client, words, cure):
    (client / "failure").write_text(words)
    with pytest.raises(AwsError) as caught:
        images().resolve(f"{AWS}/mine:1")
    assert caught.value.code == "ValidationException"
    assert caught.value.message.startswith(f"Cannot pull image {HOST}/mine@{DIGEST}: `docker pull`")
    assert words in caught.value.message
    assert cure in caught.value.message.partition(words)[2]
    assert "dG9rZW4=" not in caught.value.message


OCI = "application/vnd.oci.image."
ARM = {"platform": {"os": "linux", "architecture": "arm64"}}
ATTESTATION = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}


@pytest.mark.parametrize(
    ("media_type", "manifest", "words"),
    [
        (f"{OCI}manifest.v1+json", {}, "Unsupported manifest media type application/vnd.oci"),
        (
            f"{OCI}index.v1+json",
            {"manifests": [ARM, ATTESTATION]},
            "an index of linux/arm64 and attestations",
        ),
        (f"{OCI}manifest.v1+json", {"config": {"mediaType": "a/b"}}, "not an image"),
        (DOCKER_MANIFEST.value, {"layers": [{"mediaType": "x.tar.zstd"}]}, "packed with zstd"),
        (f"{OCI}index.v1+json", {"manifests": [3, {"platform": 4}]}, "an index"),
    ],
)
def test_what_sagemaker_refuses_is_refused(client, media_type, manifest, words):
    with pytest.raises(AwsError) as caught:
        images(media_type, manifest).resolve(f"{AWS}/mine:1")
    assert words in caught.value.message
    if "stored as" in caught.value.message:
        assert "oci-mediatypes=false" in caught.value.message
    assert not (client / "asked").exists()


@pytest.mark.parametrize(
    ("architecture", "instance_type", "words"),
    [
        ("arm64", "ml.m5.large", "built for arm64, and the instances are amd64 (ml.m5.large)"),
        ("amd64", "ml.m8g.large", "built for amd64, and the instances are arm64"),
        ("arm64", "", "amd64 (serverless)"),
        ("arm64", "ml.m8g.large", ""),
        ("amd64", "ml.g5.xlarge", ""),
        ("arm64", "local_gpu", ""),
        ("", "ml.m5.large", ""),
    ],
)
def test_an_image_for_another_machine_is_warned_about(client, architecture, instance_type, words):
    """Not refused: it may run here, on a Mac's engine, and fail in the cloud."""
    image = images(architecture=architecture).resolve(f"{AWS}/mine:1")
    warning = image.machine_warning([instance_type])
    assert words in warning
    assert bool(words) == bool(warning)


def test_an_engines_own_image_states_its_machine(client):
    found = [{"Id": DIGEST, "RepoDigests": [], "Architecture": "arm64"}]
    (client / "inspected").write_text(json.dumps(found))
    image = DockerImages().resolve("mine")
    assert (image.digest, image.architecture) == (DIGEST, "arm64")


def test_the_warning_stands_in_the_jobs_log(house):
    class Arm(RecordedImages):
        def resolve(self, uri):
            return replace(super().resolve(uri), architecture="arm64")

    made = House(house.state / "arm", house.engine, Arm(house.state / "arm"))
    try:
        assert made.run("true")["TrainingJobStatus"] == "Completed"
        assert made.log()[0].startswith("byoc: warning: the image is built for arm64")
    finally:
        made.close()


def test_an_image_that_is_nowhere(client):
    with pytest.raises(AwsError, match="no image of that name, nor has the region's") as no:
        DockerImages().resolve(f"{AWS}/mine@{DIGEST}")
    assert "docker build -t" not in no.value.message
    with pytest.raises(AwsError, match="docker build -t mine:latest"):
        DockerImages().resolve("mine")
