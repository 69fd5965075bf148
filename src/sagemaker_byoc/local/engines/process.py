"""The engine without images: the contract's command as a plain process of this interpreter.

Its /opt/ml is a mount namespace of its own; where the kernel forbids that, the tree is moved with
SAGEMAKER_BASE_DIR, which programs that read SM_* follow and programs that write "/opt/ml" don't.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import environment, lifecycle
from sagemaker_byoc.contract.paths import BASE_DIR, DEFAULT_ROOT
from sagemaker_byoc.local.engines.container import Container, ContainerSpec
from sagemaker_byoc.local.errors import MachineError

ROOMS = {
    lifecycle.TRAIN_ARGUMENT.value: "sagemaker_byoc.training",
    lifecycle.SERVE_ARGUMENT.value: "sagemaker_byoc.serving",
}
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "TERM")
"""A container inherits nothing of its host; a process needs these few, and no credentials."""
_PROBE_SECONDS = 20.0
_END_SECONDS = 60.0
"""Between the end of a log and the end of the process that wrote it."""


@dataclass(frozen=True, slots=True)
class ProcessEngine:
    """`unshare` is the command that makes the namespace; empty where there is none to be had."""

    unshare: tuple[str, ...]
    name: str = "process"

    @classmethod
    def detect(cls, scratch: Path) -> ProcessEngine:
        """Try what this kernel allows, in the empty folder `scratch`."""
        for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
            if shutil.which(command[0]) and _mounts(command, scratch):
                return cls(command)
        return cls(())

    def start(self, spec: ContainerSpec) -> Container:
        room = ROOMS[spec.argument]
        command = [sys.executable, "-I", "-m", room, spec.argument]
        variables = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        variables |= _own_variables(spec)
        if self.unshare:
            command = self._in_namespace(spec, command)
        else:
            _show_inputs(spec)
            variables[BASE_DIR] = str(spec.tree.root)
        variables |= spec.environment
        return ProcessContainer(_popen(command, variables))

    def _in_namespace(self, spec: ContainerSpec, command: list[str]) -> list[str]:
        for relative in spec.inputs:
            (spec.tree.root / relative).mkdir(parents=True, exist_ok=True)
        binds = [f"{relative}={source.resolve()}" for relative, source in spec.inputs.items()]
        return [*self.unshare, *_inside(spec.tree.root), *binds, "--", *command]


@dataclass(frozen=True, slots=True)
class ProcessContainer:
    """A process group whose leader is the contract's command."""

    process: subprocess.Popen[str]

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        with self.process.stdout as log:
            for line in log:
                yield line.rstrip("\n")

    def exit_code(self) -> int | None:
        returncode = self.process.poll()
        return None if returncode is None else lifecycle.exit_code_of(returncode)

    def wait(self) -> int:
        return lifecycle.exit_code_of(self.process.wait(timeout=_END_SECONDS))

    def stop(self, grace: float) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            self.close()

    def collect(self) -> None:
        """Nothing to do: the container wrote into the tree itself."""

    def close(self) -> None:
        """End what is left of the group; a container leaves no process behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _popen(command: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C in the terminal is ours to translate into the contract's SIGTERM.
        start_new_session=True,
    )


def _inside(root: Path) -> list[str]:
    return [sys.executable, "-I", "-m", "sagemaker_byoc.local.engines.namespace", str(root)]


def _mounts(unshare: tuple[str, ...], scratch: Path) -> bool:
    """Whether `unshare` gives a namespace in which `scratch` appears as /opt/ml."""
    command = [*unshare, *_inside(scratch), "--", "test", "-d", str(DEFAULT_ROOT)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=_PROBE_SECONDS)
    return result.returncode == 0


def _own_variables(spec: ContainerSpec) -> dict[str, str]:
    variables = {}
    if spec.program is not None:
        variables[environment.SUBMIT_DIRECTORY] = str(spec.program.resolve())
    if spec.port is not None:
        variables["SAGEMAKER_BIND_TO_PORT"] = str(spec.port)
        variables["BYOC_BIND_HOST"] = "127.0.0.1"
    return variables


def _show_inputs(spec: ContainerSpec) -> None:
    for relative, source in spec.inputs.items():
        place = spec.tree.root / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source.resolve(), target_is_directory=True)


def make_engine(scratch: Path) -> ProcessEngine:
    """The engine for this machine; `scratch` is an empty folder, used to try what is allowed."""
    if sys.platform == "win32":
        raise MachineError("the process engine needs Linux", cure="Use --engine docker")
    return ProcessEngine.detect(scratch)
