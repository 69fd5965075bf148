"""A shell in a container in place of its command: the same tree, variables, image and network."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from sagemaker_byoc.region.engines.container import ContainerSpec

_SCRIPT = """cd "${SAGEMAKER_SUBMIT_DIRECTORY:-.}" && if command -v bash >/dev/null
then exec bash; else exec sh; fi"""


class ShellEngine(Protocol):
    """An engine that can show the inside of a container."""

    def shell(self, spec: ContainerSpec) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Yield a process on this terminal; at the end nothing of the container is left."""


def shell_of(spec: ContainerSpec) -> ContainerSpec:
    return replace(spec, entrypoint=("/bin/sh", "-c", _SCRIPT), arguments=())
