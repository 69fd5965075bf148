"""What both Dockerfiles say of torch's builds is what the locks and the contract say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sagemaker_byoc.contract.gpu import (
    CUDA_LABEL,
    DEFAULT_DRIVERS,
    DRIVER_LABEL,
    OLDEST_DRIVER,
    is_enough,
)
from sagemaker_byoc.images.build import project

ROOT = Path(__file__).parents[4]
KINDS = ("cpu", "cuda12", "cuda13")
CUDA = re.compile(r"^nvidia-cuda-runtime(?:-cu12)?==(\d+)\.(\d+)\.", re.MULTILINE)


TEMPLATES = ROOT / "src/sagemaker_byoc/images/build/project/template"


@pytest.fixture(params=["train", "serve"])
def dockerfile(request):
    return (ROOT / f"Dockerfile.{request.param}").read_text()


@pytest.fixture(params=["train", "serve"])
def template(request):
    return (TEMPLATES / f"Dockerfile.{request.param}.template").read_text()


@pytest.mark.parametrize("kind", ["cuda12", "cuda13"])
def test_the_labels_are_those_of_the_lock(dockerfile, template, kind):
    """CUDA as the locked runtime has it; the oldest driver as NVIDIA's table has it."""
    lock = (ROOT / "requirements" / f"torch-{kind}.txt").read_text()
    major, minor = map(int, CUDA.search(lock).groups())
    oldest = ".".join(map(str, OLDEST_DRIVER.value[major]))
    for text in (dockerfile, template):
        (stage,) = re.findall(rf"^FROM \S+ AS torch-{kind}\nLABEL (.*)$", text, re.MULTILINE)
        labels = dict(re.findall(r'(\S+)="([^"]*)"', stage))
        assert labels == {CUDA_LABEL.value: f"{major}.{minor}", DRIVER_LABEL.value: oldest}
        assert re.findall(r"^FROM torch-\$\{BUILT_FOR\}", text, re.MULTILINE)


def test_every_requirements_file_is_installed_with_the_constraints(dockerfile, template):
    """By the one installer, with what may be replaced; a label says nothing of a replaced torch."""
    for text in (dockerfile, template):
        last = text[text.rindex("contract.requirements") :]
        assert '--replace "$REPLACE"' in last
        assert "--constraints /opt/venv/constraints.txt" in last
        assert not re.findall(r"pip\S* install[^\n]* (?:-r|--requirement) requirements.txt", text)
        assert "ARG OTHER=${REPLACE:+other}\nARG BUILT_FOR=${OTHER:-$TORCH}\n" in text
        assert 'sagemaker-byoc.torch="$BUILT_FOR"' in text


def test_the_default_runs_on_default_hosts(dockerfile):
    """On each family that AWS gives a driver of this decade; CUDA 13 would run on none of them."""
    (default,) = re.findall(r"^ARG TORCH=(\w+)$", dockerfile, re.MULTILINE)
    major = int(default.removeprefix("cuda"))
    drivers = {driver for driver in DEFAULT_DRIVERS.value.values() if driver > 470}
    assert all(is_enough(driver, major) for driver in drivers)
    assert not any(is_enough(driver, major + 1) for driver in drivers)


@pytest.mark.parametrize("kind", KINDS)
def test_each_torch_is_pinned_by_its_hash(kind):
    text = (ROOT / "requirements" / f"torch-{kind}.txt").read_text()
    assert re.search(r"^torch==\S+ \\\n {4}--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)


def test_the_locks_agree_beside_torch_and_nvidia():
    """A package of one layer must not be replaced by that of the next."""
    pins = {}
    for name in ("train", "serve", "torch-cuda12", "torch-cuda13"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        for package, version in re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE):
            pins.setdefault(package, set()).add(version)
    ours = {"torch", "triton", "cuda-bindings", "cuda-pathfinder"}  # by CUDA's version
    assert {name for name, versions in pins.items() if len(versions) > 1} <= ours


def test_another_kind_of_torch_rebuilds_nothing(dockerfile):
    """The torch layer is gigabytes: it may depend on its own lock only."""
    mounted = re.findall(r"source=requirements/torch\S*", dockerfile)
    stages = dict(
        re.findall(r"^FROM scratch AS (lock-\w+)\nCOPY (\S+) /torch.txt$", dockerfile, re.MULTILINE)
    )
    assert not mounted
    assert stages == {f"lock-{kind}": f"requirements/torch-{kind}.txt" for kind in KINDS}


def test_both_images_share_the_torch_layer():
    """BuildKit shares a layer whose instructions, up to it, are the same."""
    layers = {
        (ROOT / f"Dockerfile.{name}")
        .read_text()
        .partition("# The lock of")[2]
        .partition("# The rest")[0]
        for name in ("train", "serve")
    }
    assert len(layers) == 1
    assert "torch/test" in layers.pop()


@pytest.mark.parametrize(("kind", "room"), [("train", "training"), ("serve", "serving")])
def test_an_image_holds_the_rooms_that_its_own_imports(kind, room):
    text = (ROOT / f"Dockerfile.{kind}").read_text()
    copied = {*re.findall(r"^COPY src/sagemaker_byoc/(\w+) ", text, re.MULTILINE)}
    package = ROOT / "src/sagemaker_byoc"
    imported = {
        found
        for each in copied
        for path in (package / each).rglob("*.py")
        for found in re.findall(r"^ *from sagemaker_byoc\.(\w+)", path.read_text(), re.MULTILINE)
    }
    assert room in copied
    assert imported == copied


@pytest.mark.parametrize("kind", ["train", "serve"])
def test_what_init_writes_names_a_version_of_all_that_it_installs(kind, tmp_path):
    """As hadolint's DL3013 wants it, also of torch, which is there already."""
    project.write(tmp_path, "mine")
    text = (tmp_path / f"Dockerfile.{kind}").read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if "--find-links /mnt/toolkit" in line]
    words = shlex.split(line.partition("&&")[0].partition("/mnt/toolkit")[2])
    assert [word for word in words if not re.search(r"[=<>]|^-|^:all:$", word)] == []
    assert "torch>=2" in words
