"""The docker client as a program: `docker` on PATH, or what the variable DOCKER names.

Only the command line is used, so podman's and a remote engine's do as well.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO

from sagemaker_byoc.contract.asked import note_command
from sagemaker_byoc.images import reference
from sagemaker_byoc.images.errors import ImageError, MachineError
from sagemaker_byoc.images.sources.documents import Json

QUICK = 60.0
SLOW = 1800.0


class DockerError(ImageError):
    """The engine answered, and its answer is no; `text` is what it said."""

    exit_code = 1

    def __init__(self, verb: str, text: str) -> None:
        self.text = text
        super().__init__(f"`docker {verb}` failed: {text}", cure="Read the engine's words above")


class SilentError(MachineError):
    """The engine gave no answer in time."""


def client() -> str:
    return os.environ.get("DOCKER") or "docker"


def run(
    *arguments: str,
    data: bytes | None = None,
    timeout: float = QUICK,
    environment: Mapping[str, str] | None = None,
    with_errors: bool = False,
) -> str:
    """One command's standard output, `with_errors` the other too.

    Ctrl-C in the terminal reaches this process and not the command, whose death would be taken for
    the engine's refusal. Raise DockerError if the engine refuses, MachineError if there is none.
    """
    note_command([client(), *arguments])
    try:
        result = subprocess.run(
            [client(), *arguments],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if with_errors else subprocess.PIPE,
            check=False,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    except OSError as error:
        raise _no_client(error) from error
    except subprocess.TimeoutExpired as error:
        raise SilentError(
            f"`docker {arguments[0]}` gave no answer in {timeout:.0f} s",
            cure="Check the engine with: docker info",
        ) from error
    if result.returncode != 0:
        raise _refusal(arguments[0], result.stderr or result.stdout)
    return result.stdout.decode(errors="replace")


def inspect(kind: str, name: str) -> dict[str, Json] | None:
    """`docker KIND inspect NAME`; None where the engine has no such thing."""
    try:
        found: list[dict[str, Json]] = json.loads(run(kind, "inspect", name))
    except DockerError as error:
        if "no such" in error.text.lower() or "not found" in error.text.lower():
            return None
        raise
    return found[0] if found else None


def saved(name: str, image_id: str) -> AbstractContextManager[IO[bytes]]:
    """What `docker save` streams of one image; a name without a tag would give all of a repository.

    `image_id` is that of `name`, as `inspect` gives it.
    """
    if not image_id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
        parsed = reference.parse(name)
        if not parsed.tag and not parsed.digest:
            name = f"{name}:{reference.DEFAULT_TAG}"
    return output_of("save", name)


@contextmanager
def output_of(*arguments: str) -> Iterator[IO[bytes]]:
    """A command whose output is read as it comes; it is ended where the reader stops early."""
    note_command([client(), *arguments])
    try:
        process = subprocess.Popen(
            [client(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise _no_client(error) from error
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout
        except BaseException as error:
            process.kill()
            failed = process.wait() > 0  # its own failure explains the reader's, not a signal
            if failed and isinstance(error, Exception):
                raise _refusal(arguments[0], process.stderr.read()) from None
            raise
        while process.stdout.read(2**16):
            pass
        if process.wait(timeout=QUICK) != 0:
            raise _refusal(arguments[0], process.stderr.read())


def _no_client(error: OSError, program: str = "") -> MachineError:
    return MachineError(
        f"there is no docker client {program or client()!r} ({error.strerror})",
        cure="Install docker or podman, or set DOCKER to the client's path (one program, without "
        "arguments)",
    )


def explain(command: Sequence[str]) -> MachineError:
    """Run a command that failed once more, and return the cause in its own words or in ours."""
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=QUICK,
        )
    except OSError as error:
        return _no_client(error, command[0])
    except subprocess.TimeoutExpired:
        return MachineError(
            f"`{shlex.join(command)}` gave no answer in {QUICK:.0f} s",
            cure="Check the engine with: docker info",
        )
    text = result.stderr.strip() or result.stdout.strip()
    if result.returncode == 0:  # by now
        text = "error during connect: "
    return unreachable(text) or MachineError(
        f"`{shlex.join(command)}` failed: {text or 'it said nothing'}",
        cure="Check the engine with: docker info",
    )


_WHERE = "set DOCKER_HOST to where it listens"
_SILENT = (
    r"Cannot connect to the Docker daemon at (?P<a>\S+?)\.? Is the|daemon is not running"
    r"|error during connect: "
)
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r'context "(?P<a>[^"]*)"(?:: context not found| does not exist)',
        "there is no docker context {a!r}",
        "Unset DOCKER_CONTEXT, or choose one of `docker context ls`: docker context use default",
    ),
    (
        r"[Ii]nvalid bind address format: (?P<a>\S+)",
        "DOCKER_HOST {a!r} is not an address",
        "Write unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST, or unset it",
    ),
    (
        r"resolve docker endpoint: (?P<a>open \S+\.pem: .+)",
        "docker can't read its certificates: {a}",
        "Set DOCKER_CERT_PATH to their folder, or unset DOCKER_TLS_VERIFY",
    ),
    (
        r"resolve docker endpoint: (?P<a>.+)",
        "docker can't tell where its engine is: {a}",
        "Correct DOCKER_HOST or DOCKER_CONTEXT, or unset it",
    ),
    (
        r"permission denied while trying to connect to the \w+ (?:daemon socket|API) at (?P<a>\S+)",
        "this user has no permission to use the Docker engine at {a}",
        "Join the group docker and log in again, or use --builder podman, which needs no engine",
    ),
    (
        r"dial tcp: lookup (?P<a>\S+?):? |ssh: Could not resolve hostname (?P<b>[^:\s]+)",
        "DOCKER_HOST or the docker context names {a}, a host that is not known",
        f"Correct the name, or {_WHERE}",
    ),
    (
        r"docker system dial-stdio\].*stderr=(?P<a>.*)",
        "no Docker engine answers over ssh: {a}",
        "Try `ssh HOST docker version`, which needs a key without a prompt",
    ),
    (
        r"client version (?P<a>\S+) is too (?:new|old)",
        "the docker client and its engine do not fit: {a}",
        "Unset DOCKER_API_VERSION, or install a client and an engine of nearer versions",
    ),
    (
        r"(?P<a>(?:tls: |x509: ).+|server gave HTTP response to HTTPS client)",
        "no Docker engine answers with TLS: {a}",
        "Correct DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, or the port in DOCKER_HOST",
    ),
    (
        r"Cannot connect to Podman",
        "no podman service answers",
        "Start it: podman machine start",
    ),
    (
        _SILENT,
        "no Docker engine answers{a}",
        f"Start it (systemctl start docker), or {_WHERE}; `byoc doctor` looks closer",
    ),
)
"""What docker 20.10 and 28 print if they reach no engine, and the cause in our words."""


def unreachable(text: str) -> MachineError | None:
    """Return why the client reached no engine; None if its words say something else."""
    for pattern, what, cure in _CAUSES:
        match = re.search(pattern, text)
        if match is None:
            continue
        groups = match.groupdict()
        named = next((value.strip() for value in groups.values() if value), "")
        if "answers{a}" in what and named:
            named = f" at {named}"
        return MachineError(what.format(a=named), cure=cure)
    return None


def _refusal(verb: str, stderr: bytes) -> ImageError:
    text = stderr.decode(errors="replace").strip() or "it said nothing"
    return unreachable(text) or DockerError(verb, text)
