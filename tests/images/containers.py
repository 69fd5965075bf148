"""Containers for tests: created, filled, started, emptied and removed through the docker client.

Every container carries the label of its test run, so that what a crash left can be removed exactly:
    docker rm -f $(docker ps -aq --filter label=sagemaker-byoc.test)
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABEL = "sagemaker-byoc.test"
CLIENT = os.environ.get("DOCKER", "docker")
ZOO = Path(__file__).parent.parent / "zoo"


def docker(
    *arguments: str, data: bytes | None = None, check: bool = True, timeout: float = 120
) -> subprocess.CompletedProcess[bytes]:
    """One call of the client; its standard error is in the exception where it fails."""
    result = subprocess.run(
        [CLIENT, *arguments], input=data, capture_output=True, check=False, timeout=timeout
    )
    if check and result.returncode:
        raise AssertionError(f"docker {arguments[0]}: {result.stderr.decode(errors='replace')}")
    return result


def wait_until(condition: Callable[[], object], what: str, timeout: float = 60) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.05)


@dataclass(frozen=True)
class Container:
    """One container of a test."""

    id: str

    @classmethod
    def create(
        cls,
        image: str,
        *command: str,
        run: str,
        options: Sequence[str] = (),
        files: Mapping[str, bytes | Path] | None = None,
        user: int = 0,
    ) -> Container:
        """Not started yet; `files` are absolute paths inside, folders to be copied whole."""
        labelled = ["create", "--label", f"{LABEL}={run}", "--user", f"{user}:{user}", *options]
        container = cls(docker(*labelled, image, *command).stdout.decode().strip())
        try:
            if files:
                docker("cp", "-", f"{container.id}:/", data=_archive(files, user))
        except BaseException:
            container.remove()
            raise
        return container

    def start(self) -> Container:
        docker("start", self.id)
        return self

    def wait(self, timeout: float = 60) -> int:
        return int(docker("wait", self.id, timeout=timeout).stdout)

    def run(self, timeout: float = 60) -> int:
        return self.start().wait(timeout)

    def stop(self, grace: int) -> int:
        """SIGTERM, and SIGKILL after `grace` seconds; the exit code."""
        docker("stop", "--time", str(grace), self.id, timeout=grace + 30)
        return self.wait()

    def execute(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return docker("exec", self.id, *command, check=check)

    def has(self, path: str) -> bool:
        return self.execute("test", "-e", path, check=False).returncode == 0

    @property
    def is_running(self) -> bool:
        return bool(self.inspect()["State"]["Running"])

    @property
    def address(self) -> str:
        return str(self.inspect()["NetworkSettings"]["IPAddress"])

    @property
    def log(self) -> str:
        result = docker("logs", self.id)
        return (result.stdout + result.stderr).decode(errors="replace")

    def wait_for_log(self, text: str, timeout: float = 60) -> None:
        wait_until(lambda: text in self.log or not self.is_running, f"{text!r} in log", timeout)
        assert text in self.log, f"ended without {text!r} in its log:\n{self.log}"

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is no such file. Works on a stopped container too."""
        result = docker("cp", f"{self.id}:{path}", "-", check=False)
        if result.returncode:
            return None
        with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
            file = archive.extractfile(archive.getmembers()[0])
            return file.read() if file else b""

    def inspect(self) -> dict[str, Any]:
        return dict(json.loads(docker("inspect", self.id).stdout)[0])

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.id, check=False)


MakeContainer = Callable[..., Container]
"""The fixture `make`: a kind of image, a command, and the details of Container.create."""


def _archive(files: Mapping[str, bytes | Path], user: int) -> bytes:
    """A tar of them with every folder above, all owned by `user`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        made: set[Path] = set()
        for target, source in files.items():
            _add_folders(archive, Path(target).parent, made, user)
            if isinstance(source, Path):
                archive.add(source, target.lstrip("/"), filter=_owned(user))
            else:
                entry = tarfile.TarInfo(target.lstrip("/"))
                entry.size, entry.mtime = len(source), int(time.time())
                archive.addfile(_owned(user)(entry), io.BytesIO(source))
    return buffer.getvalue()


def _add_folders(archive: tarfile.TarFile, folder: Path, made: set[Path], user: int) -> None:
    for path in [*reversed(folder.parents), folder]:
        if path in made or path in {Path("/"), Path("/opt")}:  # the image's own
            continue
        made.add(path)
        entry = tarfile.TarInfo(str(path).lstrip("/"))
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
        archive.addfile(_owned(user)(entry))


def _owned(user: int) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    def own(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = user
        entry.uname = entry.gname = ""
        return entry

    return own
