"""The Docker engine, driven by its command line: create, cp, start, stop, cp.

No bind mounts, so it works with a remote engine and leaves no root-owned files behind. The client
is `docker` on PATH, or the program that the variable DOCKER names.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sagemaker_byoc.contract import environment, http
from sagemaker_byoc.contract.paths import DEFAULT_ROOT
from sagemaker_byoc.local.engines.container import Container, ContainerSpec
from sagemaker_byoc.local.errors import MachineError, RequestError

LABEL = "sagemaker-byoc"
"""Every container of ours carries it, so that exactly ours can be found and removed."""
SHARED_MEMORY = "2g"
"""Docker's default of 64 MB ends data loaders with a bus error."""

_QUICK = 60.0
_COPY = 1800.0
_SKIPPED = frozenset({".git", ".venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache"})
PROGRAM_LIMIT = 256 * 2**20
"""Bytes. A folder of code above it is a mistake more often than a program."""


def client() -> str:
    return os.environ.get("DOCKER") or "docker"


def run(arguments: Sequence[str], timeout: float = _QUICK) -> str:
    """One docker command's stdout; MachineError with docker's own words where it fails."""
    try:
        result = subprocess.run(
            [client(), *arguments], capture_output=True, text=True, check=False, timeout=timeout
        )
    except FileNotFoundError as error:
        raise MachineError(
            f"there is no docker client {client()!r}",
            cure="Install one, set DOCKER to its path, or use --engine process",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"`docker {arguments[0]}` gave no answer in {timeout:.0f} s",
            cure="Check the engine with: docker info",
        ) from error
    if result.returncode != 0:
        raise MachineError(
            f"`docker {arguments[0]}` failed: {result.stderr.strip() or result.stdout.strip()}",
            cure="Check the engine with: docker info",
        )
    return result.stdout


@dataclass(frozen=True, slots=True)
class DockerEngine:
    mount_inputs: bool = False
    """Bind-mount the inputs read-only instead of copying them: for large data, local engines."""
    name: str = "docker"

    def start(self, spec: ContainerSpec) -> Container:
        """Raises RequestError for an image that the engine does not have."""
        self._require(spec.image)
        container = DockerContainer(spec)
        run(["create", *self.create_arguments(spec)])
        try:
            self._fill(spec)
            run(["start", spec.name])
        except BaseException:
            container.close()
            raise
        return container

    def create_arguments(self, spec: ContainerSpec) -> list[str]:
        """What follows `docker create`."""
        arguments = ["--name", spec.name, "--hostname", spec.hostname]
        arguments += ["--label", f"{LABEL}={spec.argument}", "--shm-size", SHARED_MEMORY]
        if Path("/proc/driver/nvidia/version").exists():
            arguments += ["--gpus", "all"]
        for name, value in self._variables(spec).items():
            arguments += ["--env", f"{name}={value}"]
        if spec.port is not None:
            arguments += ["--publish", f"127.0.0.1:{spec.port}:{http.PORT.value}"]
        if self.mount_inputs:
            for relative, source in spec.inputs.items():
                target = DEFAULT_ROOT / relative
                arguments += ["--mount", f"type=bind,src={source.resolve()},dst={target},readonly"]
        return [*arguments, spec.image, spec.argument]

    def _variables(self, spec: ContainerSpec) -> dict[str, str]:
        code = {environment.SUBMIT_DIRECTORY: str(DEFAULT_ROOT / "code")} if spec.program else {}
        return {**code, **spec.environment}

    def _require(self, image: str) -> None:
        run(["version", "--format", "{{.Server.Version}}"])
        try:
            run(["image", "inspect", image])
        except MachineError as error:
            raise RequestError(
                f"the engine has no image {image!r}",
                cure="Build it with scripts/build-images, or name another with --image",
            ) from error

    def _fill(self, spec: ContainerSpec) -> None:
        sources = {"": spec.tree.root}
        if not self.mount_inputs:
            sources |= {relative: source.resolve() for relative, source in spec.inputs.items()}
        if spec.program is not None:
            sources["code"] = program_folder(spec.program)
        command = [client(), "cp", "-", f"{spec.name}:/"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as copy:
            assert copy.stdin is not None
            assert copy.stderr is not None
            with suppress(BrokenPipeError), copy.stdin:
                write_tree(copy.stdin, sources)
            message = copy.stderr.read().decode(errors="replace").strip()
            if copy.wait(timeout=_COPY) != 0:
                raise MachineError(
                    f"the tree could not be copied into the container: {message}",
                    cure="Check that the engine's disk has room: docker system df",
                )


@dataclass(frozen=True, slots=True)
class DockerContainer:
    spec: ContainerSpec

    def lines(self) -> Iterator[str]:
        command = [client(), "logs", "--follow", self.spec.name]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as logs:
            assert logs.stdout is not None
            try:
                for line in logs.stdout:
                    yield line.rstrip("\n")
            finally:
                logs.terminate()

    def exit_code(self) -> int | None:
        state = json.loads(run(["container", "inspect", self.spec.name]))[0]["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def wait(self) -> int:
        return int(run(["wait", self.spec.name]))

    def stop(self, grace: float) -> None:
        run(["stop", "--time", str(int(grace)), self.spec.name], timeout=grace + _QUICK)

    def collect(self) -> None:
        for relative in self.spec.outputs:
            source = f"{self.spec.name}:{DEFAULT_ROOT / relative}/."
            target = self.spec.tree.root / relative
            target.mkdir(parents=True, exist_ok=True)
            # A folder that the container removed is an empty output.
            with suppress(MachineError):
                run(["cp", source, str(target)], timeout=_COPY)

    def close(self) -> None:
        with suppress(MachineError):
            run(["rm", "--force", "--volumes", self.spec.name])


def write_tree(stream: IO[bytes], sources: dict[str, Path]) -> None:
    """A tar of opt/ml on `stream`: folders relative to /opt/ml with what each holds."""
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for relative, source in sources.items():
            place = DEFAULT_ROOT.relative_to("/") / relative
            tar.add(source, arcname=str(place), filter=_as_root)


def program_folder(program: Path) -> Path:
    """`program`, if it is of a size that a program has."""
    total = 0
    for folder, folders, files in os.walk(program):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        total += sum(Path(folder, name).lstat().st_size for name in files)
        if total > PROGRAM_LIMIT:
            raise RequestError(
                f"the program folder {program} holds over {PROGRAM_LIMIT >> 20} MiB",
                cure="Name a folder that holds code only, and give data as a --channel",
            )
    return program


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if _SKIPPED.intersection(Path(entry.name).parts):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
