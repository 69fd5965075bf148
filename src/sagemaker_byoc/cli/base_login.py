"""A login for a builder that pulls a base image out of ECR, such as AWS's own images.

The builder gets a docker configuration whose credential helper is a script that asks ECR when it is
asked: nothing secret is written, and the user's own configuration stays as it is.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sagemaker_byoc.host.image_reference import ecr_host
from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.registry import docker_login, lend_with_helper

HELPER = "byoc-ecr"
_NAME = re.compile(r"[a-z0-9.-]*\d{12}\.dkr[.-]ecr\.[a-z0-9.-]+")


def ecr_hosts(*texts: str) -> list[str]:
    """Return the ECR registries that a Dockerfile, or a build argument, names; each once."""
    found = {match.group() for text in texts for match in _NAME.finditer(text)}
    return sorted(host for host in found if ecr_host(host))


@contextmanager
def lent(hosts: list[str]) -> Iterator[list[str]]:
    """Give docker a login for those of `hosts` that it has none for; yield them."""
    missing = [host for host in hosts if docker_login(host) is None]
    if not missing:
        yield []
        return
    scratch.sweep_folders()
    with scratch.scratch("login") as folder:
        _write_helper(folder)
        lend_with_helper(folder, HELPER, missing)
        changes = {
            "DOCKER_CONFIG": str(folder),
            "PATH": f"{folder}:{os.environ.get('PATH', os.defpath)}",
            "REGISTRY_AUTH_FILE": str(folder / "config.json"),  # podman's and buildah's
        }
        with _environment(changes):
            yield missing


def _write_helper(folder: Path) -> None:
    path = folder / f"docker-credential-{HELPER}"
    command = shlex.join([sys.executable, "-m", "sagemaker_byoc.cli.ecr_credentials"])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o700)


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
