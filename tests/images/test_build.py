"""`byoc build` with the builders that there are, and the project that `byoc init` writes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.images.containers import docker

from sagemaker_byoc.host.ignore import read
from sagemaker_byoc.images.build.contexts import walk
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


SECRETS = """ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
RUN --mount=type=secret,id=file --mount=type=secret,id=A_TOKEN \\
    cat /run/secrets/file /run/secrets/A_TOKEN > /dev/null && date +%s%N > /now
"""


def test_two_images_of_one_content_have_two_tags(project):
    """A tag means one image, also if the build makes another one each time; secrets stay out."""
    (project / "Dockerfile").write_text(SECRETS)
    (project / "Dockerfile.train").unlink()
    (project / "secret.txt").write_text("s3cret-in-a-file")
    words = ["--secret", "id=file,src=secret.txt", "--secret", "id=A_TOKEN", "--no-cache", "--json"]
    made = []
    try:
        for _ in range(2):
            done = byoc("build", "train", *words, cwd=project, A_TOKEN="s3cret-in-a-variable")
            made.append(json.loads(done.stdout))
            assert "Dockerfile is built as it is" in done.stderr
            assert "s3cret" not in done.stderr
        first, second = made
        assert first["content"] == second["content"]
        assert first["image"] != second["image"]
        for one in made:
            named = json.loads(docker("image", "inspect", one["image"]).stdout)[0]
            assert named["Id"] == one["id"]
            assert one["image"].endswith(f":{one['id'].partition(':')[2][:12]}")
            labels = named["Config"]["Labels"]
            base = "python:3.11-slim-bookworm"
            assert labels["org.opencontainers.image.base.name"] == base
        names = docker("image", "ls", "--format", "{{.Tag}}", "byoc-test-tiny-train").stdout.split()
        assert len(names) == 3  # no name of the build itself is left
        history = docker("history", "--no-trunc", second["image"]).stdout
        assert b"s3cret" not in history
    finally:
        remove(*{tag for one in made for tag in one["tags"]})


IGNORED = [
    ["*", "!program"],
    ["*", "!program/a", "**/*.log"],
    ["# a comment", "  program/a  ", "/README.md/"],
    ["program/**", "!program/a/x.txt"],
    ["**/x.*", "!**/x.log"],
    ["[^p]*", "program/?"],
    ["./program//b/../a", "!program/a/x.log"],
    ["program/a\\*", "*.m*"],
]


@pytest.mark.slow
@pytest.mark.parametrize("lines", IGNORED)
def test_dockerignore_leaves_out_what_docker_leaves_out(lines, project):
    """Our reading of the patterns beside the builder's own."""
    for name in ("program/a/x.txt", "program/a/x.log", "program/b", "program/a*", "x.txt", "é.md"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    (project / "Dockerfile.train").write_text("FROM scratch\nCOPY . /\n")
    (project / ".dockerignore").write_text("".join(f"{line}\n" for line in lines))
    image = byoc("build", "train", cwd=project).stdout.strip()
    try:
        container = docker("create", image, "x").stdout.decode().strip()
        try:
            exported = docker("export", container).stdout
        finally:
            docker("rm", container)
    finally:
        remove(image, "byoc-test-tiny-train:latest")
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        entries = [entry.name for entry in archive if entry.isfile()]
    engine = re.compile(r"(\.dockerenv|dev/.*|etc/(hosts|hostname|resolv\.conf))")
    found = {name for name in entries if not engine.fullmatch(name)}
    own = read(project, project / "Dockerfile.train")
    ours = {name for name, path in walk(project, own) if path.is_file()}
    always = {".dockerignore", "Dockerfile.train"}  # a builder may send them in any case
    assert found - always == ours - always


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


@dataclass(frozen=True)
class Initial:
    """The project that `byoc init` writes; the two builds of it, and the reports of the checks."""

    folder: Path
    builds: dict[str, Future]
    reports: dict[str, Future]
    tags: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def initial(tmp_path_factory):
    """Both images at once: they have torch's layer in common, and most of a check is waiting."""
    work = tmp_path_factory.mktemp("initial")
    folder = work / "byoc-test-init"
    byoc("init", folder, cwd=work)
    for wheel in (ROOT / "wheels").glob("*.whl"):
        shutil.copy(wheel, folder / "wheels")
    (work / "rows.json").write_text("[[0.5, 0.4]]")
    builds: dict[str, Future] = {}

    def build(kind):
        made = json.loads(byoc("build", kind, "--json", cwd=folder, seconds=1800).stdout)
        found.tags.update(made["tags"])
        return made

    def report(kind):
        words = []
        if kind == "serve":
            byoc("train", "--output", work / "out", cwd=folder)
            words = ["--model", work / "out" / "model.tar.gz", "--payload", work / "rows.json"]
        image = builds[kind].result()["image"]
        done = byoc("check", image, "--json", *words, cwd=folder, seconds=900)
        return json.loads(done.stdout)

    found = Initial(folder, builds, {})
    with ThreadPoolExecutor(4) as pool:
        for kind in ("train", "serve"):
            builds[kind] = pool.submit(build, kind)
            found.reports[kind] = pool.submit(report, kind)
        yield found
    remove(*found.tags)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "serve"])
def test_the_project_of_init_builds_and_is_accepted(kind, initial):
    """As it is written, with torch's CPU build; the checker finds nothing to say."""
    assert initial.reports[kind].result()["findings"] == []


def write_torch(folder):
    """A wheel that pip takes for torch 2.1.0, for CUDA 11.8."""
    info = "torch-2.1.0.dist-info"
    with zipfile.ZipFile(folder / "torch-2.1.0-py3-none-any.whl", "w") as file:
        file.writestr("torch/__init__.py", "")
        file.writestr("torch/version.py", "cuda: Optional[str] = '11.8'\n")
        file.writestr("torch/bin/torch_shm_manager", "")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.mark.slow
def test_requirements_replace_nothing_of_the_image(initial, tmp_path):
    """torch that is there already adds nothing; another is an error that names both versions; what
    is replaced on purpose is in the labels. A wheel of a few bytes stands for the other torch: its
    name and version alone decide."""
    folder = tmp_path / "byoc-test-init"
    shutil.copytree(initial.folder, folder)
    wanted = folder / "program" / "requirements.txt"

    def build(*more, code=0):
        return byoc("build", "train", "--json", *more, cwd=folder, seconds=1800, code=code)

    def inspected(made):
        initial.tags.update(made["tags"])
        return json.loads(docker("image", "inspect", made["image"]).stdout)[0]

    plain = inspected(initial.builds["train"].result())
    assert plain["Config"]["Labels"]["sagemaker-byoc.torch"] == "cpu"
    wanted.write_text("torch\n")
    same = inspected(json.loads(build("--sbom", "sbom.json").stdout))
    assert same["Size"] - plain["Size"] < 100_000
    listed = json.loads((folder / "sbom.json").read_text())["components"]
    assert {"torch", "sagemaker-byoc", "base-files"} < {one["name"] for one in listed}
    wanted.write_text("torch<2.5\n")
    said = build("--progress", "quiet", code=1).stderr
    assert "requirements.txt asks for torch<2.5, and this image holds torch 2." in said
    write_torch(folder / "program")
    wanted.write_text("./torch-2.1.0-py3-none-any.whl\n")
    replaced = inspected(json.loads(build("--build-arg", "REPLACE=torch").stdout))
    assert replaced["Config"]["Labels"]["sagemaker-byoc.torch"] == "cuda11"
    assert replaced["Config"]["Labels"]["sagemaker-byoc.cuda"] == "11.8"
