"""Fixtures: the two images, and containers that are always removed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.images.containers import LABEL, Container, MakeContainer, docker

TAG = os.environ.get("TAG", "latest")
NAMES = {"train": f"byoc-train:{TAG}", "serve": f"byoc-serve:{TAG}"}


@pytest.fixture(scope="session")
def images() -> dict[str, dict[str, Any]]:
    """What `docker image inspect` says of each image, under `train` and `serve`."""
    return {
        kind: json.loads(docker("image", "inspect", name).stdout)[0] for kind, name in NAMES.items()
    }


@pytest.fixture(params=["train", "serve"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def run() -> Iterator[str]:
    """A name for this test run; at its end no container may carry it."""
    name = uuid.uuid4().hex
    yield name
    left = docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={name}").stdout.split()
    if left:
        docker("rm", "--force", "--volumes", *(entry.decode() for entry in left))
    assert not left, "containers were left behind; they are removed now"


@pytest.fixture
def make(run: str, images: dict[str, dict[str, Any]]) -> Iterator[MakeContainer]:
    """Create a container of image `train` or `serve`; its log is printed, which pytest shows
    where the test fails, and it is removed."""
    made: list[Container] = []

    def create(kind: str, *command: str, **details: Any) -> Container:
        container = Container.create(NAMES[kind], *command, run=run, **details)
        made.append(container)
        return container

    yield create
    for container in made:
        try:
            print(f"--- log of {container.id[:12]}\n{container.log}")
        finally:
            container.remove()


@pytest.fixture
def inside(make: MakeContainer) -> Callable[[str, str], Any]:
    """Run Python statements in a fresh container of an image; what they print as JSON."""

    def execute(kind: str, program: str) -> Any:
        container = make(
            kind, "-c", program, options=["--entrypoint", "/opt/venv/bin/python", "--network=none"]
        )
        assert container.run(120) == 0, container.log
        return json.loads(docker("logs", container.id).stdout)

    return execute
