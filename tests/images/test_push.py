"""`byoc push` from a real engine to a real docker-registry and to the region's ECR."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.images.conftest import NAMES
from tests.images.containers import docker, wait_until
from tests.images.registries import RealRegistry, Way, docker_registry
from tests.unit.images.served import registry

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.images.push import programs
from sagemaker_byoc.region.region import Region

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
LAYERS, LAYER_MIB = 6, 4
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry") / "data") as found:
        yield found


@pytest.fixture
def image() -> Iterator[str]:
    """Image of six layers of noise, which no other image has."""
    name = f"byoc-test-{uuid.uuid4().hex[:12]}"
    lines = ["FROM scratch", *(f"COPY {n} /noise/{n}" for n in range(LAYERS))]
    files = {"Dockerfile": "\n".join([*lines, 'ENTRYPOINT ["/noise/0"]']).encode()}
    files |= {str(n): os.urandom(LAYER_MIB << 20) for n in range(LAYERS)}
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    docker("build", "--quiet", "--tag", name, "-", data=context.getvalue())
    yield name
    docker("rmi", "--force", name, check=False)


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """A cache and a docker configuration of the test's own, and no account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    folders = {"XDG_CACHE_HOME": tmp_path / "cache", "DOCKER_CONFIG": tmp_path / "docker"}
    return {**kept, **{name: str(path) for name, path in folders.items()}}


@pytest.fixture(params=["docker", "skopeo"])
def way(request: pytest.FixtureRequest, variables: dict[str, str], tmp_path: Path) -> Any:
    """The same with either program: an engine that does not say its version is not known."""
    (info,) = docker("info", "--format", "{{json .DriverStatus}}").stdout.splitlines()
    if request.param == "docker":
        if b"io.containerd.snapshotter" in info:
            pytest.skip("the engine keeps its images in containerd's store")
        return variables
    skopeo("--version")
    client = tmp_path / "client"
    real = shutil.which(os.environ.get("DOCKER", "docker"))
    client.write_text(f'#!/bin/sh\n[ "$1" = version ] && exit 1\nexec "{real}" "$@"\n')
    client.chmod(0o700)
    return {**variables, "DOCKER": str(client)}


def names_in_engine(host: str) -> list[str]:
    lines = docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.decode().splitlines()
    return [line for line in lines if line.startswith(host)]


def push(*arguments: str, env: dict[str, str], expected: int = 0) -> tuple[dict[str, Any], str]:
    """The result and what was said."""
    command = [*BYOC, "push", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, env=env, timeout=500, check=False)
    said = done.stderr.decode()
    assert done.returncode == expected, said
    return json.loads(done.stdout) if done.stdout else {}, said


def how(found: dict[str, Any]) -> list[str]:
    return sorted(layer["how"] for layer in found["layers"])


def skopeo(*arguments: str) -> bytes:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    return subprocess.run(
        [program, *arguments], capture_output=True, check=True, timeout=120
    ).stdout


def read_back(name: str, image: str, digest: str) -> None:
    """By skopeo and by the engine, which has to unpack every layer to the bytes it was built of."""
    raw = skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}@{digest}")
    assert json.loads(raw)["mediaType"] == DOCKER_MANIFEST
    (before,) = json.loads(docker("image", "inspect", image).stdout)
    docker("rmi", "--force", image)
    docker("pull", "--quiet", f"{name}@{digest}")
    try:
        (after,) = json.loads(docker("image", "inspect", f"{name}@{digest}").stdout)
        assert after["RootFS"] == before["RootFS"]
        assert after["Config"]["Entrypoint"] == before["Config"]["Entrypoint"]
    finally:
        docker("rmi", "--force", f"{name}@{digest}")


def test_to_a_real_registry_and_back(image, real, way):
    found, _ = push(image, "--registry", real.host, env=way)
    assert how(found) == LAYERS * ["sent"]
    assert found["tag"] == docker("images", "--quiet", image).stdout.decode().strip()
    again, _ = push(image, "--registry", real.host, env=way)
    assert again["image"] == found["image"]
    assert again["already_there"] is True
    again, _ = push(image, "--registry", real.host, "--tag", "other", env=way)
    assert how(again) == LAYERS * ["there"]
    assert not names_in_engine(real.host)
    read_back(f"{real.host}/{image}", image, found["digest"])


def test_the_plan_names_the_program_that_is_run(image, real, way, request):
    arguments = [image, "--registry", real.host, "--dry-run"]
    found, _ = push(*arguments, env=way)
    planned = [step["do"] for step in found["steps"]]
    program = request.node.callspec.params["way"]
    assert any(step.startswith("skopeo ") for step in planned) is (program == "skopeo")
    assert any(f" push {real.host}/" in step for step in planned) is (program == "docker")


def test_what_the_engine_had_under_the_targets_name_stays(image, real, variables):
    """Another image is called so; then the image itself has no other name."""
    target = f"{real.host}/{image}:1"
    other = "python:3.11-slim-bookworm"
    before = docker("image", "inspect", "--format", "{{.Id}}", other).stdout
    docker("tag", other, target)
    try:
        push(image, "--registry", real.host, "--tag", "1", env=variables)
        assert docker("image", "inspect", "--format", "{{.Id}}", target).stdout == before
    finally:
        docker("rmi", target, check=False)
    own = docker("image", "inspect", "--format", "{{.Id}}", image).stdout.decode().strip()
    keep = docker("create", image).stdout.decode().strip()  # else the name takes the image along
    docker("rmi", "--force", image)
    docker("rm", keep)
    named = ["--registry", real.host, "--repository", image, "--tag", "2"]
    try:
        _, said = push(own, *named, env=variables)
        assert docker("image", "inspect", "--format", "{{.Id}}", own).stdout.decode().strip() == own
        assert "the image has no other" in said
    finally:
        docker("rmi", "--force", own, check=False)


def test_killed_in_the_middle_and_run_again(image, real, way, tmp_path):
    """Three layers arrive, three hang; the next push also removes the folder with the login."""
    variables = {**way, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    before = real.blobs
    with Way(real.host, whole=3, stall=True).serving() as between:
        command = [*BYOC, "push", image, "--registry", between.host]
        pusher = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE)
        try:
            three = lambda: between.held.is_set() and len(real.blobs - before) == 3  # noqa: E731
            wait_until(three, "three layers")
        finally:
            pusher.send_signal(signal.SIGKILL)
            pusher.communicate(timeout=20)
        between.hang_up()
        between.whole = 10**9
        found, _ = push(image, "--registry", between.host, env=variables)
    for name in names_in_engine(between.host):  # of the push that was killed
        docker("rmi", name)
    assert not [*(tmp_path / "tmp").iterdir()]
    assert real.blobs - before >= {layer["digest"] for layer in found["layers"]}
    read_back(f"{real.host}/{image}", image, found["digest"])


def test_a_connection_that_breaks_is_made_again(image, real, way):
    with Way(real.host, whole=1, cuts=2).serving() as between:
        found, said = push(image, "--registry", between.host, env=way)
        assert not names_in_engine(between.host)
    assert between.held.is_set()
    assert "again in" in said
    assert how(found) == LAYERS * ["sent"]
    read_back(f"{real.host}/{image}", image, found["digest"])


def test_an_interrupt_ends_it_at_once(image, real, way):
    with Way(real.host, whole=0, stall=True).serving() as between:
        command = [*BYOC, "push", image, "--registry", between.host]
        pusher = subprocess.Popen(command, env=way, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            wait_until(between.held.is_set, "an upload")
            pusher.send_signal(signal.SIGINT)
            out, err = pusher.communicate(timeout=30)  # half of what a silent registry is given
        finally:
            pusher.kill()
            pusher.wait(10)
    assert pusher.returncode == 130
    assert not out
    assert b"Traceback" not in err
    assert not names_in_engine(between.host)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout.decode()
    assert not [line for line in running.splitlines() if between.host in line]


def test_docker_is_not_repeated_without_end(image, variables):
    """docker tries again what a layer needs; a manifest that is never taken is sent twice."""

    def busy(handler):
        if handler.command == "PUT" and "/manifests/" in handler.url.path:
            handler.rfile.read(int(handler.headers["Content-Length"]))
            handler.refuse(503, "UNAVAILABLE")
            return True
        return False

    with registry() as served:
        served.faults.append(busy)
        _, said = push(image, "--registry", served.host, env=variables, expected=1)
        manifests = [line for line in served.sent("PUT") if "/manifests/" in line]
    assert said.count("again in") == 1
    assert "did not get the image" in said
    assert len(manifests) == 2
    assert not names_in_engine(served.host)


def test_docker_is_given_up_at_a_registry_that_falls_silent(image, monkeypatch, capfd):
    monkeypatch.setattr(programs, "STILL_SECONDS", 2)
    release = threading.Event()

    def silent(handler):
        return handler.command == "PATCH" and release.wait(60)

    with registry() as served:
        served.faults.append(silent)
        try:
            assert main(["push", image, "--registry", served.host]) == 1
        finally:
            release.set()
    assert "has received nothing" in capfd.readouterr().err
    assert not names_in_engine(served.host)


@pytest.mark.parametrize("source", ["engine", "archive", "registry"])
def test_docker_pushes_where_skopeo_is_not_installed(source, image, real, variables, tmp_path):
    """The engine keeps no name of the registry's, and the login's folder goes away."""
    (tmp_path / "bin").mkdir()
    program = shutil.which(os.environ.get("DOCKER", "docker"))
    assert program is not None
    env = {**variables, "PATH": str(tmp_path / "bin"), "DOCKER": program}
    name = image
    if source == "archive":
        name = str(tmp_path / "image.tar")
        docker("save", "--output", name, image)
    elif source == "registry":
        push(image, "--registry", real.host, "--tag", "1", env=variables)
        name = f"docker://{real.host}/{image}:1"
    wanted = ["--registry", real.host, "--repository", f"docker-{source}", "--tag", "7"]
    found, _ = push(name, *wanted, env=env)
    assert len(how(found)) == LAYERS
    names = docker("images", "--format", "{{.Repository}}").stdout.decode().split()
    assert [name for name in names if name.startswith(f"{real.host}/")] == []
    again, _ = push(name, *wanted, env=env)
    assert again["already_there"] is True
    assert again["digest"] == found["digest"]
    read_back(f"{real.host}/docker-{source}", image, found["digest"])


def test_a_layout_of_skopeos_is_converted(image, real, variables, tmp_path):
    docker("save", "--output", str(tmp_path / "image.tar"), image)
    layout = tmp_path / "oci"
    skopeo("copy", f"docker-archive:{tmp_path}/image.tar", f"oci:{layout}")
    name = ["--registry", real.host, "--repository", "converted"]
    found, _ = push(f"oci:{layout}", *name, env=variables)
    assert found["converted_from"] == "application/vnd.oci.image.manifest.v1+json"
    for layer in found["layers"]:  # byte for byte as they lie there
        assert (layout / "blobs" / layer["digest"].replace(":", "/")).is_file()
    read_back(f"{real.host}/converted", image, found["digest"])


def test_layers_of_zstd_are_refused_and_the_cure_works(image, real, variables, tmp_path):
    docker("save", "--output", str(tmp_path / "image.tar"), image)
    zstd = ["--dest-compress-format", "zstd"]
    skopeo("copy", *zstd, f"docker-archive:{tmp_path}/image.tar", f"oci:{tmp_path}/zstd")
    name = ["--registry", real.host, "--repository", "zstd"]
    _, said = push(f"oci:{tmp_path}/zstd", *name, env=variables, expected=1)
    assert "zstd" in said
    assert "skopeo copy --dest-decompress SOURCE dir:PLAIN" in said
    skopeo("copy", "--dest-decompress", f"oci:{tmp_path}/zstd", f"dir:{tmp_path}/plain")
    skopeo("copy", f"dir:{tmp_path}/plain", f"oci:{tmp_path}/packed")
    found, _ = push(f"oci:{tmp_path}/packed", *name, env=variables)
    read_back(f"{real.host}/zstd", image, found["digest"])


def test_our_serving_image_to_ecr(variables):
    """The local region's: made, pushed, verified, and pulled as an instance would."""
    with Region() as region:
        env = {**variables, **region.environ}
        arguments = [NAMES["serve"], "--repository", "byoc/serve", "--tag", "v1", "--immutable"]
        found, said = push(*arguments, env=env)
        assert "repository byoc/serve: created" in said
        ecr = region.client("ecr")
        (detail,) = ecr.describe_images(repositoryName="byoc/serve")["imageDetails"]
        assert detail["imageDigest"] == found["digest"]
        assert detail["imageManifestMediaType"] == DOCKER_MANIFEST
        assert detail["imageTags"] == ["v1"]
        assert (
            found["image"] == f"{region.url.removeprefix('http://')}/byoc/serve@{found['digest']}"
        )
        again, _ = push(*arguments, env=env)
        assert again["already_there"] is True
        assert again["image"] == found["image"]
        assert not Path(variables["DOCKER_CONFIG"]).exists()
