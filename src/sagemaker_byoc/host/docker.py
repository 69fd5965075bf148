"""The docker client as a program: `docker` on PATH, or what the variable DOCKER names.

Only the command line is used, so podman's and a remote engine's do as well.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO

from sagemaker_byoc.contract.errors import ByocError, MachineError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.host import docker_reasons, image_reference
from sagemaker_byoc.host.asked import note_command

QUICK = 60.0
SLOW = 1800.0


class DockerError(ByocError):
    """The engine answered, and its answer is no; `text` is what it said."""

    exit_code = 1

    def __init__(self, verb: str, text: str) -> None:
        self.text = text
        super().__init__(f"`docker {verb}` failed: {text}", hint="Read the engine's words above")


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
            hint="Check the engine with: docker info",
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
        parsed = image_reference.parse(name)
        if not parsed.tag and not parsed.digest:
            name = f"{name}:{image_reference.DEFAULT_TAG}"
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
    found = docker_reasons.no_client(program or client(), error)
    return MachineError(found.what, hint=found.hint)


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
            hint="Check the engine with: docker info",
        )
    text = result.stderr.strip() or result.stdout.strip()
    if result.returncode == 0:  # by now
        text = "error during connect: "
    return unreachable(text) or MachineError(
        f"`{shlex.join(command)}` failed: {text or 'it said nothing'}",
        hint="Check the engine with: docker info",
    )


def unreachable(text: str) -> MachineError | None:
    """Return why the client reached no engine; None if its words say something else."""
    found = docker_reasons.reason(text, "use --builder podman, which needs no engine")
    return None if found is None else MachineError(found.what, hint=found.hint)


def _refusal(verb: str, stderr: bytes) -> ByocError:
    text = stderr.decode(errors="replace").strip() or "it said nothing"
    return unreachable(text) or DockerError(verb, text)
