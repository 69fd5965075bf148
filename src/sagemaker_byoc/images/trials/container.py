"""Containers of a trial: created, filled, started, emptied, and removed whatever happens.

Nothing is mounted, so a remote engine does as well. Each carries a label, by which what a crash
left can be found: docker ps --all --filter label=sagemaker-byoc.check
"""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.gpu import ALLOW_CPU
from sagemaker_byoc.images import docker
from sagemaker_byoc.images.errors import ImageError, RequestError
from sagemaker_byoc.images.tar import entries

LABEL = "sagemaker-byoc.check"
SHARED_MEMORY = "2g"
LOG_LINES = 40
_CATCHABLE = 15
_PAUSE = 0.05
_OUTPUT_LIMIT = 2 * 2**30

Content = bytes | Path
"""A file's bytes, or a file or folder of this machine."""


@dataclass(frozen=True, slots=True)
class Container:
    id: str

    def start(self) -> str:
        """What the engine says where it can't start it; empty where it runs."""
        try:
            docker.run("start", self.id)
        except docker.DockerError as error:
            return error.text
        return ""

    def exit_code(self) -> int | None:
        """None while it runs."""
        state = docker.run(
            "container", "inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", self.id
        )
        running, _, code = state.strip().partition(" ")
        return None if running == "true" else int(code)

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None where it runs on after `seconds`."""
        return wait_for(self.exit_code, seconds)

    def signal(self, name: str) -> None:
        with suppress(docker.DockerError):  # it may have ended this moment
            docker.run("kill", "--signal", name, self.id)

    def log(self) -> str:
        """The last lines of both its streams, in no order between them."""
        try:
            return docker.run("logs", "--tail", str(LOG_LINES), self.id, with_errors=True)
        except docker.DockerError as error:
            return error.text

    def read_proc(self, path: str) -> str:
        """A file of the container's /proc; empty where the image has no `cat`, or it has ended."""
        try:
            return docker.run("exec", self.id, "cat", path)
        except docker.DockerError:
            return ""

    def catches_term(self) -> bool | None:
        """Whether process 1 has a handler for SIGTERM: without one the kernel drops the signal."""
        for line in self.read_proc("/proc/1/status").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (_CATCHABLE - 1) & 1)
        return None

    def files(self, folder: str) -> dict[str, bytes]:
        """Files below an absolute folder with their first 64 KiB; works once it has ended too."""
        found: dict[str, bytes] = {}
        try:
            with docker.output_of("cp", f"{self.id}:{folder}", "-") as stream:
                for entry, body in entries(stream):
                    if entry.kind == "file":
                        found[entry.name.partition("/")[2] or entry.name] = body.read(2**16)
        except docker.DockerError:  # the container has no such folder
            return {}
        return found

    def port(self, inside: int) -> int:
        """Where `inside` is reached on 127.0.0.1."""
        found = json.loads(
            docker.run(
                "container", "inspect", "--format", "{{json .NetworkSettings.Ports}}", self.id
            )
        )
        return int(found[f"{inside}/tcp"][0]["HostPort"])

    def remove(self) -> None:
        with suppress(ImageError):
            docker.run("rm", "--force", "--volumes", self.id)


@contextmanager
def container(
    image: str,
    argument: str,
    *,
    options: Sequence[str] = (),
    files: Mapping[str, Content] | None = None,
) -> Iterator[Container]:
    """Created and filled, not started. `files` are absolute paths inside."""
    words = ["create", "--label", f"{LABEL}={uuid.uuid4().hex[:8]}", "--shm-size", SHARED_MEMORY]
    words += ["--env", f"{ALLOW_CPU}=1"]  # the image is on trial, not this machine's driver
    if Path("/proc/driver/nvidia/version").exists():
        words += ["--gpus", "all"]
    made = Container(docker.run(*words, *options, image, argument).strip())
    try:
        docker.run("cp", "-", f"{made.id}:/", data=pack(files or {}), timeout=docker.SLOW)
        yield made
    finally:
        made.remove()


@contextmanager
def network() -> Iterator[str]:
    """A network of its own, on which containers know each other by name."""
    name = f"byoc-check-{uuid.uuid4().hex[:8]}"
    docker.run("network", "create", "--internal", "--label", f"{LABEL}={name}", name)
    try:
        yield name
    finally:
        with suppress(ImageError):
            docker.run("network", "rm", name)


def pack(files: Mapping[str, Content]) -> bytes:
    """A tar of them, owned by root; a path that ends in / is an empty folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for target, content in files.items():
            name = target.strip("/")
            if isinstance(content, Path):
                _check_size(content)
                archive.add(content, name, filter=_as_root)
                continue
            entry = _as_root(tarfile.TarInfo(name))
            entry.mtime = int(time.time())
            if target.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _check_size(path: Path) -> None:
    if not path.exists():
        raise RequestError(f"there is no {path}", cure="Name a file or folder of this machine")
    files = path.rglob("*") if path.is_dir() else [path]
    if sum(file.lstat().st_size for file in files) > _OUTPUT_LIMIT:
        raise RequestError(
            f"{path} holds over {_OUTPUT_LIMIT >> 30} GiB", cure="Give a small sample for the check"
        )


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o777 if entry.isdir() else 0o644  # a temporary folder's own mode shuts users out
    return entry


def wait_for(ask: Callable[[], int | None], seconds: float) -> int | None:
    """The first answer that is not None, asked again and again for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (answer := ask()) is None and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return answer
