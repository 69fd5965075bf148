"""`byoc build` with the builders that there are, and the project that `byoc init` writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.images.containers import docker

from sagemaker_byoc.images.model import DOCKER_MANIFEST

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
DOCKERFILE = """ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS first
RUN echo made > /made
FROM ${BASE}
COPY --from=first /made /made
COPY program/ /opt/program/
ENTRYPOINT ["python3", "/opt/program/train.py"]
"""


def byoc(*words, cwd, code=0, seconds=600, **environment):
    done = subprocess.run(
        [*BYOC, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == code, done.stderr
    return done


def remove(*tags):
    docker("image", "rm", "--force", *tags, check=False)  # a failed build left none


@pytest.fixture
def project(tmp_path):
    """A few bytes on the base image."""
    folder = tmp_path / "tiny"
    (folder / "program").mkdir(parents=True)
    (folder / "program" / "train.py").write_text("import sys; print('argument', sys.argv[1])\n")
    (folder / "Dockerfile.train").write_text(DOCKERFILE)
    (folder / ".dockerignore").write_text("*\n!program\n")
    (folder / "pyproject.toml").write_text('[tool.byoc]\nname = "byoc-test-tiny"\n')
    return folder


@pytest.mark.parametrize("buildkit", ["1", "0"])
def test_a_build_and_one_more(project, buildkit):
    """The reference alone on stdout; the same content is the same image, and a change is not."""
    made = []
    try:
        for _ in range(2):
            done = byoc("build", "train", "--json", cwd=project, DOCKER_BUILDKIT=buildkit)
            made.append(json.loads(done.stdout))
        first, second = made
        assert {key: first[key] for key in ("image", "id", "content")} == {
            key: second[key] for key in ("image", "id", "content")
        }
        name = "legacy" if buildkit == "0" else first["builder"]["name"]
        assert first["builder"]["name"] == name
        assert name != "legacy" or buildkit == "0" or "docker-buildx" in done.stderr
        assert first["tags"] == [first["image"], "byoc-test-tiny-train:latest"]
        found = json.loads(docker("image", "inspect", first["image"]).stdout)[0]
        assert (found["Os"], found["Architecture"]) == ("linux", "amd64")
        assert found["Config"]["Labels"]["sagemaker-byoc.content"] == first["content"]
        ran = docker("run", "--rm", first["image"], "train")
        assert ran.stdout == b"argument train\n"

        (project / "program" / "train.py").write_text("print('other')\n")
        done = byoc("build", "train", cwd=project, DOCKER_BUILDKIT=buildkit)
        made.append({"tags": [done.stdout.strip()]})
        assert done.stdout.strip() != first["image"]
    finally:
        remove(*{tag for one in made for tag in one["tags"]})


def test_what_the_legacy_builder_does_not_know_is_said_before(project):
    text = DOCKERFILE.replace("RUN echo", "RUN --mount=type=cache,target=/x echo")
    (project / "Dockerfile.train").write_text(text)
    done = byoc("build", "train", cwd=project, code=2, DOCKER_BUILDKIT="0")
    assert "Dockerfile.train:3 has RUN --mount" in done.stderr
    assert done.stdout == ""


def test_a_line_that_fails_is_exit_1_with_the_builders_words(project):
    (project / "Dockerfile.train").write_text(DOCKERFILE.replace("echo made", "echo sorry; false"))
    done = byoc("build", "train", "--progress", "quiet", cwd=project, code=1)
    assert "sorry" in done.stderr
    assert "error[BUILD]" in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_podman_writes_dockers_manifest(project):
    """Its default is OCI's, which SageMaker refuses."""
    archive = project / "base.tar"
    docker("save", "--output", str(archive), "python:3.11-slim-bookworm")
    subprocess.run(["podman", "load", "--quiet", "--input", archive], check=True, timeout=300)
    archive.unlink()
    done = byoc("build", "train", "--builder", "podman", "--json", cwd=project)
    image = json.loads(done.stdout)["image"]
    try:
        form = ["--format", "{{.ManifestType}} {{.Architecture}}"]
        command = ["podman", "image", "inspect", *form, image]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert said.split() == [DOCKER_MANIFEST, "amd64"]
    finally:
        subprocess.run(["podman", "image", "rm", "--force", image], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "serve"])
def test_the_project_of_init_builds_and_is_accepted(kind, tmp_path):
    """As it is written, with torch's CPU build; the checker finds nothing to say."""
    folder = tmp_path / "byoc-test-init"
    byoc("init", folder, cwd=tmp_path)
    for wheel in (ROOT / "wheels").glob("*.whl"):
        shutil.copy(wheel, folder / "wheels")
    made = json.loads(byoc("build", kind, "--json", cwd=folder, seconds=1800).stdout)
    try:
        words = []
        if kind == "serve":
            byoc("train", "--output", "out", cwd=folder)
            (folder / "rows.json").write_text("[[0.5, 0.4]]")
            words = ["--model", "out/model.tar.gz", "--payload", "rows.json"]
        done = byoc("check", made["image"], "--json", *words, cwd=folder, seconds=900)
        assert json.loads(done.stdout)["findings"] == []
    finally:
        remove(*made["tags"])
