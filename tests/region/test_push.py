"""`byoc push` to the region's ECR, as it would go to AWS's: no engine needed for an archive."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import threading

import pytest
from tests.unit.images import made

from sagemaker_byoc.images.model import DOCKER_MANIFEST

pytestmark = pytest.mark.slow
BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
NOISE = os.urandom(64 * 2**10)


@pytest.fixture(scope="module")
def ecr(region):
    return region.client("ecr")


@pytest.fixture
def push(region, tmp_path):
    """Exit code, standard output, standard error."""
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **region.environ,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
    }

    def run(*arguments):
        command = [*BYOC, "push", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, env=variables, timeout=60, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    run.home = tmp_path
    return run


@pytest.fixture
def layout(tmp_path):
    """Layout with OCI's media types, behind an index with an attestation."""
    layer = made.layer({"opt/program/noise": NOISE})
    document = made.config(Entrypoint=["python", "train.py"])
    document["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    return made.layout(tmp_path / "oci", document, layer, attested=True)


def test_from_nothing_to_a_digest(push, layout, ecr, region):
    wanted = ["--repository", "team/oci", "--immutable", "--scan", "--lifecycle", "4"]
    code, out, err = push(layout, *wanted)
    assert code == 0, err
    (repository,) = ecr.describe_repositories(repositoryNames=["team/oci"])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    policy = ecr.get_lifecycle_policy(repositoryName="team/oci")["lifecyclePolicyText"]
    assert json.loads(policy)["rules"][0]["selection"]["countNumber"] == 4
    (detail,) = ecr.describe_images(repositoryName="team/oci")["imageDetails"]
    assert out == f"{repository['repositoryUri']}@{detail['imageDigest']}\n"
    assert detail["imageManifestMediaType"] == DOCKER_MANIFEST
    assert len(NOISE) < detail["imageSizeInBytes"] < 2 * len(NOISE)
    assert detail["imageTags"] == [_config_digest(layout)[:12]]

    code, again, err = push(layout, *wanted)
    assert (code, again) == (0, out)
    assert "created" not in err
    code, again, err = push(layout, "--repository", "team/oci", "--tag", "named", "--json")
    assert code == 0
    found = json.loads(again)
    assert found["image"] == out.strip()
    assert {layer["how"] for layer in found["layers"]} == {"there"}
    assert found["converted_from"] == "application/vnd.oci.image.manifest.v1+json"


def test_a_fixed_tag_and_another_image(push, layout, tmp_path):
    assert push(layout, "--repository", "fixed", "--tag", "v1", "--immutable")[0] == 0
    other = made.layer({"other": b"1"})
    document = made.config()
    document["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(other).hexdigest()}"]
    path = made.saved(tmp_path / "other.tar", document, other)
    code, out, err = push(path, "--repository", "fixed", "--tag", "v1")
    assert (code, out) == (1, "")
    assert "error[REGISTRY]" in err
    assert "can't be moved" in err
    assert re.search(r"fix: Use --tag [0-9a-f]{12}, made from this image, or another", err)
    assert push(path, "--repository", "fixed", "--tag", "v1", "--mutable")[0] == 0


def test_an_image_of_another_platform_makes_no_repository(push, tmp_path, ecr):
    layer = made.layer({"x": b"1"})
    document = made.config(architecture="arm64")
    document["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    path = made.saved(tmp_path / "arm.tar", document, layer)
    code, out, err = push(path, "--repository", "arm")
    assert (code, out) == (1, "")
    assert "want linux/amd64" in err
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_repositories(repositoryNames=["arm"])


def test_the_login_is_left_nowhere(push, layout):
    """Not in a configuration of docker's, not in the cache, not in what is said."""
    code, out, err = push(layout, "--repository", "quiet")
    assert code == 0
    kept = [path for path in push.home.rglob("*") if path.is_file() and "oci" not in path.parts]
    text = out + err + "".join(path.read_text() for path in kept)
    assert not (push.home / "docker").exists()
    assert "expiration" not in text
    assert "QVdT" not in text  # how base64 of `AWS:` begins


def test_two_at_once_agree(push, layout):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(push(layout, "--repository", "race")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [code for code, _, _ in results] == [0, 0, 0], results
    assert len({out for _, out, _ in results}) == 1


def test_from_one_of_its_repositories_to_another(push, layout, region):
    code, out, _ = push(layout, "--repository", "first", "--tag", "1")
    assert code == 0
    host = region.url.removeprefix("http://")
    code, copied, err = push(f"docker://{host}/first:1", "--repository", "second", "--json")
    assert code == 0, err
    found = json.loads(copied)
    assert found["digest"] == out.strip().partition("@")[2]
    assert {layer["how"] for layer in found["layers"]} == {"mounted"}


def _config_digest(layout):
    for path in (layout / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        if data[:2] != gzip.compress(b"")[:2] and b'"rootfs"' in data:
            return path.name
    raise AssertionError
