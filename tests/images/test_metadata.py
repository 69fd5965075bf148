"""What an image says of itself, and what it weighs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagemaker_byoc import __version__

pytestmark = pytest.mark.docker

Images = dict[str, dict[str, Any]]
SIZES = json.loads((Path(__file__).parent / "sizes.json").read_text())
ROOM = {"train": "training", "serve": "serving"}


def test_entry_point_is_exec_form_and_runs_isolated(kind: str, images: Images) -> None:
    """No shell swallows SIGTERM or the argument; no file beside the program shadows ours."""
    config = images[kind]["Config"]
    module = f"sagemaker_byoc.{ROOM[kind]}"
    assert config["Entrypoint"] == ["/opt/venv/bin/python", "-I", "-m", module]
    assert config["Cmd"] == [kind]
    assert config["StopSignal"] == "SIGTERM"
    assert config["User"] == ""


def test_labels_and_environment(kind: str, images: Images) -> None:
    """The version is the package's, and the contract is named."""
    config = images[kind]["Config"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Labels"]["sagemaker-byoc.contract"] in {"training", "hosting"}
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    assert environment["BYOC_PROGRAM_DIR"] == "/opt/program"
    assert environment["PATH"].startswith("/opt/venv/bin:")
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert "PYTHONDONTWRITEBYTECODE" not in environment


def test_platform_and_port(images: Images) -> None:
    """All but one of SageMaker's instance types are linux/amd64; hosting calls port 8080."""
    assert {(image["Os"], image["Architecture"]) for image in images.values()} == {
        ("linux", "amd64")
    }
    assert list(images["serve"]["Config"]["ExposedPorts"]) == ["8080/tcp"]
    for name in ("accept-bind-to-port", "multi-models", "bidirectional-streaming"):
        label = f"com.amazonaws.sagemaker.capabilities.{name}"
        assert images["serve"]["Config"]["Labels"][label] == "true"


def test_both_images_share_the_layers_up_to_torch(images: Images) -> None:
    """Torch is on a disk, and in the build's cache, only once."""
    train, serve = (image["RootFS"]["Layers"] for image in images.values())
    shared = [one for one, other in zip(train, serve, strict=False) if one == other]
    own = {"train": len(train) - len(shared), "serve": len(serve) - len(shared)}
    assert own == SIZES["layers_after_torch"]


def test_size_is_below_its_ceiling(kind: str, images: Images) -> None:
    """Uncompressed; whoever raises a ceiling says why in benchmarks/images.md."""
    torch = images[kind]["Config"]["Labels"]["sagemaker-byoc.torch"]
    ceiling = SIZES["ceiling_bytes"][kind].get(torch)
    if ceiling is None:
        pytest.skip(f"no size was measured for torch's {torch} build")
    assert images[kind]["Size"] <= ceiling
