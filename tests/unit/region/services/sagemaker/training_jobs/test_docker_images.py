"""Images of the Docker engine's region: what is pulled, in which form, and why a pull failed.

Against a docker client that remembers what it was asked; real pulls are in tests/region/test_reach.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import TrainingRegion

from sagemaker_byoc.host.registry_images import DOCKER_MANIFEST
from sagemaker_byoc.region.containers.images import DockerImages, PullError
from sagemaker_byoc.region.containers.recorded_images import RecordedImages
from sagemaker_byoc.region.containers.specs import PushedImage
from sagemaker_byoc.region.wire.operations import AwsError

DIGEST = "sha256:" + "0f" * 32
HOST = "127.0.0.1:5000"
AWS = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
CLIENT = """#!/bin/sh
echo "$*" >> {folder}/asked
case "$*" in
  *"image inspect"*) cat {folder}/inspected 2>/dev/null || {{ echo "No such image" >&2; exit 1; }};;
  *pull*) cat "$2/config.json" >> {folder}/configs; cat {folder}/layers 2>/dev/null
    if [ -e {folder}/slow ]; then echo $$ > {folder}/pulling; exec sleep 600; fi
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
    found = images()
    image = found.resolve(uri)
    found.bring(image)
    assert image.name == f"{HOST}/mine@{DIGEST}"
    assert image.resolved.endswith(f"/mine@{DIGEST}")
    (line,) = asked(client, "pull")
    assert line.endswith(f"pull {HOST}/mine@{DIGEST}")
    assert json.loads((client / "configs").read_text())["auths"] == {HOST: {"auth": "dG9rZW4="}}


def test_an_image_is_known_without_a_pull(client):
    """`byoc launch --local --print` changes nothing; CreateTrainingJob answers at once."""
    image = images().resolve(f"{AWS}/mine:1")
    assert (image.digest, image.architecture) == (DIGEST, "amd64")
    assert "dG9rZW4=" not in repr(image)
    assert not (client / "asked").exists()


def test_an_image_that_the_engine_has_is_not_pulled(client):
    (client / "inspected").write_text(json.dumps([{"Id": DIGEST}]))
    found = images()
    found.bring(found.resolve(f"{AWS}/mine:1"))
    assert not asked(client, "pull")


def test_an_engine_that_ends_before_the_pull(client):
    found = images()
    image = found.resolve(f"{AWS}/mine:1")
    (client / "docker").unlink()
    with pytest.raises(PullError):
        found.bring(image)


def test_a_pull_says_how_far_it_is_and_ends_when_it_is_stopped(client):
    (client / "slow").touch()
    (client / "layers").write_text(
        "1: Pulling from mine\na: Pulling fs layer\nb: Pulling fs layer\na: Download complete\n"
        "a: Pull complete\na: Pull complete\nb: Verifying Checksum\n"
    )
    said, found = [], images()
    started = client / "pulling"
    found.bring(
        found.resolve(f"{AWS}/mine:1"),
        say=said.append,
        is_stopped=lambda: bool(said) and started.exists() and started.stat().st_size > 0,
    )
    assert said == ["1 of 2 layers"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


@pytest.mark.parametrize(
    ("words", "hint"),
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
        ("Get https://x/v2/: dial tcp: lookup x: no such host", "docker info"),
        ("something else", "docker info"),
    ],
)
def test_a_pull_that_fails_keeps_dockers_words(client, words, hint):
    (client / "failure").write_text(f"Error response from daemon: {words}")
    found = images()
    with pytest.raises(PullError) as caught:
        found.bring(found.resolve(f"{AWS}/mine:1"))
    assert caught.value.message.startswith(f"Cannot pull image {HOST}/mine@{DIGEST}: `docker pull`")
    assert words in caught.value.message
    assert hint in caught.value.message.partition(words)[2]
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


class Pulled(RecordedImages):
    """Images that are pulled until `done` is set; `broken` ones not at all."""

    broken = False

    def __init__(self, state):
        super().__init__(state)
        object.__setattr__(self, "done", threading.Event())

    def bring(self, image, *, say, is_stopped):
        if self.broken:
            raise PullError("ValidationException", "Cannot pull image x: no space. Make room")
        say("1 of 2 layers")
        wait_until(lambda: self.done.is_set() or is_stopped(), "the end of the pull")


@pytest.fixture
def pulled(region):
    found = Pulled(region.state / "pulled")
    made = TrainingRegion(region.state / "pulled", region.engine, found)
    yield made
    found.done.set()
    made.close()


def test_a_job_is_created_before_its_image_is_pulled(pulled):
    """A client's read timeout is 60 s, and a pull may take longer."""
    pulled.create("true")

    def steps():
        last = pulled.describe()["SecondaryStatusTransitions"][-1]
        return (last["Status"], last["StatusMessage"])

    progress = ("Training", "Downloading the training image: 1 of 2 layers")
    wait_until(lambda: steps() == progress, "the pull's progress")
    pulled.images.done.set()
    assert pulled.end()["TrainingJobStatus"] == "Completed"


def test_a_job_can_be_stopped_during_the_pull(pulled):
    pulled.create("true")
    wait_until(lambda: pulled.describe()["SecondaryStatus"] == "Training", "the pull")
    pulled.call("StopTrainingJob", TrainingJobName="job-1")
    assert pulled.end()["TrainingJobStatus"] == "Stopped"
    assert pulled.log() == []


def test_a_pull_that_fails_is_the_jobs_reason(pulled, monkeypatch):
    monkeypatch.setattr(Pulled, "broken", True)
    reason = pulled.run("true")["FailureReason"]
    assert reason == "ClientError: Cannot pull image x: no space. Make room"


def test_the_warning_stands_in_the_jobs_log(region):
    class Arm(RecordedImages):
        def resolve(self, uri):
            return replace(super().resolve(uri), architecture="arm64")

    made = TrainingRegion(region.state / "arm", region.engine, Arm(region.state / "arm"))
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
