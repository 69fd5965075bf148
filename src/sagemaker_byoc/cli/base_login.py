"""A login for a builder that pulls a base image out of ECR, such as AWS's own images.

The builder gets a docker configuration whose credential helper is a script that runs this module,
which then asks ECR: nothing secret is written, and the user's own configuration stays as it is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import Cloud
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.host.registry_images import ecr_host
from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.registry import docker_login, lend_with_helper

HELPER = "byoc-ecr"
_NAME = re.compile(r"[a-z0-9.-]*\d{12}\.dkr[.-]ecr\.[a-z0-9.-]+")
_NOTHING = "credentials not found in native keychain"
"""The refusal after which docker continues without a login."""


def ecr_hosts(*texts: str) -> list[str]:
    """Return the ECR registries that a Dockerfile, or a build argument, names; each once."""
    found = {match.group() for text in texts for match in _NAME.finditer(text)}
    return sorted(host for host in found if ecr_host(host))


@contextmanager
def lent(hosts: list[str]) -> Iterator[list[str]]:
    """Give docker a login for each of `hosts` that it lacks one for; yield those."""
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
    command = shlex.join([sys.executable, "-m", "sagemaker_byoc.cli.base_login"])
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


def main(arguments: Sequence[str]) -> int:
    """Run as a docker credential helper: `get`, a registry's name on stdin, a login on stdout.

    The protocol is docker's (docker/docker-credential-helpers); refusals go to stdout too.
    """
    if list(arguments) == ["list"]:
        print("{}")
        return 0
    if list(arguments) != ["get"]:  # store, erase: nothing is kept here
        return 0
    server = sys.stdin.read().strip()
    host = ecr_host(server.removeprefix("https://").rstrip("/"))
    if host is None:
        print(_NOTHING)
        return 1
    try:
        found = ecr.log_in(Cloud(host.region))
    except ByocError as error:
        print(f"{error.what}. {error.hint}")
        return 1
    print(json.dumps({"ServerURL": server, "Username": found.user, "Secret": found.password}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
