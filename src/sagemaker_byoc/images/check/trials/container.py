"""Trials and their containers.

A container is created, filled, started, emptied, and removed whatever happens; nothing is mounted,
so a remote engine does as well. A trial announces its bound first. If it fails, the check continues
and reports what could not be judged.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import signal
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError
from sagemaker_byoc.contract.machine import DRIVER
from sagemaker_byoc.contract.variables import ALLOW_CPU
from sagemaker_byoc.host import docker
from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.tar import entries

SHARED_MEMORY = "2g"
LOG_LINES = 40
_LOG = ("--log-driver", "json-file", "--log-opt", "max-size=16m", "--log-opt", "max-file=1")
"""A program that prints without end would fill the engine's disk."""
_TERM = 15
_PAUSE = 0.1
_OUTPUT_LIMIT = 2 * 2**30
_MOST_FILES = 1000

_BLOCKED = re.compile(r'cannot overwrite non-directory "([^"]+)" with directory')
"""Docker's words for a link or a file in the place of a folder."""
_NO_WAY = re.compile(r"too many (?:links|levels of symbolic links)|mkdir \S+: not a directory")
"""Its words for a link to itself, or a file, above a folder."""
_MOST_LINKS = 8
_ABSENT = ("no such", "could not find", "could not be found")
"""Docker's words, and podman's, for a path that is not in a container."""

Content = bytes | Path
"""A file's bytes, or a file or folder of this machine."""


class _EnoughError(Exception):
    """No more of a stream is wanted."""


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    content: Mapping[str, Content] = field(default_factory=dict)
    """What it is filled with, by absolute paths inside."""

    def start(self) -> str:
        """Fill it and start it. Return what the engine says if it can't; empty if it runs."""
        refused = self._fill()
        if refused:
            return refused
        try:
            docker.run("start", self.name)
        except docker.DockerError as error:
            return error.text
        return ""

    def exit_code(self) -> int | None:
        """Return the exit code; None while it runs."""
        running, _, code = self._look("{{.State.Running}} {{.State.ExitCode}}").partition(" ")
        return None if running == "true" else int(code)

    def wait(self, seconds: float) -> int | None:
        """Return the exit code; None if it still runs after `seconds`."""
        with suppress(docker.SilentError):
            return int(docker.run("wait", self.name, timeout=max(seconds, _PAUSE)))
        return self.exit_code()

    def signal(self, name: str, wait: Callable[[], object] = lambda: None) -> float:
        """Send SIGNAME to process 1; return the last moment at which it had not got it yet.

        It is sent directly if that is possible: the client takes longer than many a request. `wait`
        is called when all is ready for that, and returns at the moment to send it.
        """
        with suppress(OSError):
            process = self._process_of_host()
            if process is not None:
                wait()
                moment = time.monotonic()
                os.kill(int(process.name), signal.Signals[f"SIG{name}"])
                return moment
        wait()
        moment = time.monotonic()
        with suppress(docker.DockerError):  # it may have ended this moment
            docker.run("kill", "--signal", name, self.name)
        return moment

    def log(self) -> str:
        """The last lines of both its streams, in no order between them."""
        try:
            return docker.run("logs", "--tail", str(LOG_LINES), self.name, with_errors=True)
        except ByocError as error:
            return error.sentence

    def read_proc(self, name: str) -> str:
        """Return a file of process 1 in /proc; empty if it can't be read, or has ended."""
        try:
            return docker.run("exec", "--user", "0", self.name, "cat", f"/proc/1/{name}")
        except docker.DockerError:  # the image has no `cat`
            pass
        with suppress(OSError):
            process = self._process_of_host()
            return (process / name).read_text() if process is not None else ""
        return ""

    def _process_of_host(self) -> Path | None:
        """Process 1 in this machine's /proc, if that shows the engine's processes."""
        pid, _, identity = self._look("{{.State.Pid}} {{.Id}}").partition(" ")
        process = Path("/proc", pid)
        is_there = pid != "0" and (process / "cgroup").exists()
        return process if is_there and identity in (process / "cgroup").read_text() else None

    def catches_term(self) -> bool | None:
        """Whether SIGTERM reaches process 1: without a handler the kernel drops it.

        A process that blocks signals asks for them, with sigwait or a signalfd. None if unknown.
        """
        masks = [
            int(line.split()[1], 16)
            for line in self.read_proc("status").splitlines()
            if line.startswith(("SigCgt:", "SigBlk:"))
        ]
        return any(mask >> (_TERM - 1) & 1 for mask in masks) if masks else None

    def files(self, folder: str) -> dict[str, bytes]:
        """Files below an absolute folder with their first 64 KiB; works once it has ended too.

        At most 1,000 of them, and of 2 GiB together.
        """
        return self._copied(f"{folder}/.")

    def file(self, path: str) -> bytes | None:
        """Return the first 64 KiB; None if there is no such file."""
        return next(iter(self._copied(path).values()), None)

    def _copied(self, path: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        try:
            with suppress(_EnoughError), docker.output_of("cp", f"{self.name}:{path}", "-") as tar:
                _keep(tar, found)
        except docker.DockerError as error:
            if not any(words in error.text.lower() for words in _ABSENT):
                raise
        return found

    def _fill(self) -> str:
        """Put them in, through links that the image has on their way, as mounts would go.

        Return what the engine says if something else is in the way; SageMaker's mounts would
        fail there.
        """
        links: dict[str, str] = {}
        while True:
            data = pack(self.content, links)
            try:
                docker.run("cp", "-", f"{self.name}:/", data=data, timeout=docker.SLOW)
            except docker.DockerError as error:
                blocked = _BLOCKED.search(error.text)
                if blocked is None and _NO_WAY.search(error.text):
                    return error.text
                if blocked is None:
                    raise
                path = blocked[1]
                is_circle = path in links or len(links) == _MOST_LINKS
                target = "" if is_circle else self._target(path)
                if not target:
                    return error.text
                links[path] = target
            else:
                return ""

    def _target(self, path: str) -> str:
        """Where the link at `path` leads; empty if it is not a link, or one to itself."""
        targets = []
        try:
            with docker.output_of("cp", f"{self.name}:{path}", "-") as tar:
                targets = [entry.link for entry, _ in entries(tar) if entry.kind == "link"]
        except docker.DockerError as error:
            if not _NO_WAY.search(error.text):
                raise
        folder = posixpath.dirname(path)
        return posixpath.normpath(posixpath.join(folder, targets[0])) if targets else ""

    def port(self, inside: int) -> int | None:
        """Where `inside` is reached on 127.0.0.1; None once the container has ended."""
        found = json.loads(self._look("{{json .NetworkSettings.Ports}}")) or {}
        bound = found.get(f"{inside}/tcp")
        return int(bound[0]["HostPort"]) if bound else None

    def _look(self, form: str) -> str:
        return docker.run("container", "inspect", "--format", form, self.name).strip()

    def remove(self) -> None:
        with suppress(ByocError):
            scratch.whole("rm", "--force", "--volumes", self.name)


def _keep(tar: IO[bytes], found: dict[str, bytes]) -> None:
    """Raise _EnoughError if that is not all."""
    size = 0
    for entry, body in entries(tar):
        if len(found) == _MOST_FILES:
            raise _EnoughError
        if entry.kind == "file":
            found[entry.name] = body.read(2**16)
        size += entry.size
        if size > _OUTPUT_LIMIT:
            raise _EnoughError


@contextmanager
def container(
    image: str,
    argument: str,
    *,
    options: Sequence[str] = (),
    files: Mapping[str, Content] | None = None,
) -> Iterator[Container]:
    """Created, not started. `files` are absolute paths inside."""
    made = Container(f"byoc-check-{uuid.uuid4().hex[:12]}", files or {})
    words = ["create", "--name", made.name, *scratch.labels(), *_LOG, "--shm-size", SHARED_MEMORY]
    words += ["--env", f"{ALLOW_CPU}=1"]  # the image is on trial, not this machine's driver
    if DRIVER.exists():
        words += ["--gpus", "all"]
    try:
        scratch.whole(*words, *options, image, argument)
        yield made
    finally:
        made.remove()


@contextmanager
def network() -> Iterator[str]:
    """A network of its own, on which containers know each other by name.

    It is not --internal: on such a network Docker 20.10 takes 10 s to answer for a name that is not
    there yet, and the first host asks for the second before that has started.
    """
    name = f"byoc-check-{uuid.uuid4().hex[:12]}"
    try:
        scratch.whole("network", "create", *scratch.labels(), name)
        yield name
    finally:
        with suppress(ByocError):
            scratch.whole("network", "rm", name)


def pack(files: Mapping[str, Content], links: Mapping[str, str]) -> bytes:
    """A tar of them, owned by root; a path that ends in / is an empty folder.

    `files` have absolute paths; what is below one of `links` goes to where that leads.
    """
    buffer = io.BytesIO()

    def placed(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.name = _through(links, f"/{entry.name}").strip("/")
        return _as_root(entry)

    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for target, content in files.items():
            name = target.strip("/")
            if isinstance(content, Path):
                _check_size(content)
                archive.add(content, name, filter=placed)
                continue
            entry = placed(tarfile.TarInfo(name))
            entry.mtime = int(time.time())
            if target.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _through(links: Mapping[str, str], path: str) -> str:
    for link, target in links.items():
        if path == link or path.startswith(f"{link}/"):
            path = target + path[len(link) :]
    return path


def _check_size(path: Path) -> None:
    if not path.exists():
        raise RequestError(f"there is no {path}", hint="Name a file or folder of this machine")
    files = path.rglob("*") if path.is_dir() else [path]
    if sum(file.lstat().st_size for file in files) > _OUTPUT_LIMIT:
        raise RequestError(
            f"{path} holds over {_OUTPUT_LIMIT >> 30} GiB", hint="Give a small sample for the check"
        )


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o777 if entry.isdir() else 0o644  # a temporary folder's own mode shuts users out
    return entry


def wait_for(ask: Callable[[], int | None], seconds: float) -> int | None:
    """The first answer that is not None, asked again and again for at most `seconds`."""
    deadline = Deadline(seconds)
    while (answer := ask()) is None and deadline.left:
        time.sleep(min(_PAUSE, deadline.left))
    return answer


# ── trials ──


T = TypeVar("T")


class Deadline:
    """A number of seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._end - time.monotonic())


@dataclass(slots=True)
class Trials:
    """`unjudged` gets one sentence for each trial that failed, `notes` for each that was left out.

    A failed trial says nothing about the image.
    """

    say: Callable[[str], None]
    unjudged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _engine: str = ""
    """Why the engine is not asked again."""

    def tried(self, name: str, seconds: float, trial: Callable[[], T], more: str = "") -> T | None:
        """Announce the bound and run the trial, as `kept` does, unless the engine is gone."""
        if self._engine:
            self.unjudged.append(f"{name}: {self._engine}")
            return None
        self.say(f"{name}: at most {seconds:.0f} s{more}")
        return self.kept(name, trial)

    @property
    def has_engine(self) -> bool:
        return not self._engine

    def kept(self, name: str, action: Callable[[], T]) -> T | None:
        """Return what the action returns; None if it raised, and then `unjudged` has the cause."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - whatever it is, the report comes
            self.unjudged.append(f"{name}: {cause(error)}")
            if isinstance(error, MachineError):
                self._engine = cause(error)
            return None


def cause(error: Exception) -> str:
    """Return one line about an error."""
    text = error.sentence if isinstance(error, ByocError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
