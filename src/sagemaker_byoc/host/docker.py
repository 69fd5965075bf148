"""The docker client as a program: find it, run it within a time limit, explain its failures.

The client is `docker` on PATH, or what the variable DOCKER names. Only the command line is used, so
podman and remote engines work too.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.host import registry_images
from sagemaker_byoc.host.children import Child, Process

LOG = logging.getLogger(__name__)
VARIABLE = "DOCKER"
QUICK = 60.0
SLOW = 1800.0
_CHECK = "Check the engine with: docker info"
_POLL = 0.2
_MOST_WORDS = 4096
_VALUES = frozenset({"--env", "-e", "--build-arg"})
"""Options whose values may be secrets."""


class DockerError(MachineError):
    """The engine refused a command; `text` is its answer."""

    def __init__(self, verb: str, text: str) -> None:
        self.text = text
        super().__init__(f"`docker {verb}` failed: {text}", hint=_CHECK)


class NoClientError(MachineError):
    """No docker client was found."""


class SilentError(MachineError):
    """The engine gave no answer in time."""


def client(environ: Mapping[str, str] = os.environ) -> str:
    return environ.get(VARIABLE) or "docker"


def run(
    *arguments: str,
    data: bytes | None = None,
    timeout: float = QUICK,
    environment: Mapping[str, str] | None = None,
    with_errors: bool = False,
    instead: str = "",
) -> str:
    """Return one command's standard output, `with_errors` its standard error too.

    Raise DockerError if the engine refuses, SilentError after `timeout`, and MachineError if no
    engine is reached, with what can be done `instead` of using one.
    """
    with start(
        *arguments,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stderr=subprocess.STDOUT if with_errors else subprocess.PIPE,
        environment=environment,
        instead=instead,
    ) as process:
        try:
            output, errors = process.communicate(data, timeout)
        except subprocess.TimeoutExpired as error:
            raise SilentError(
                f"`docker {arguments[0]}` gave no answer in {timeout:.0f} s", hint=_CHECK
            ) from error
    if process.returncode != 0:
        raise failure(arguments[0], errors or output, instead)
    return output.decode(errors="replace")


def start(
    *arguments: str,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | None = subprocess.PIPE,
    stderr: int | IO[bytes] | None = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
    instead: str = "",
) -> Child:
    """Return one command, which runs for a `with` block. Entering it raises NoClientError for a
    client that can't be run.

    Ctrl-C in the terminal reaches this process and not the command, whose death would be taken for
    the engine's refusal; but a command without `stdin` shares the terminal.
    """
    note_command([client(), *arguments])

    def begin() -> Process:
        try:
            return subprocess.Popen(
                [client(), *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(environment or {})},
                start_new_session=stdin is not None,
            )
        except OSError as error:
            raise _no_client(client(), error, instead) from error

    return Child(begin)


def note_command(words: Sequence[str]) -> None:
    """Log a command for `byoc -v`."""
    if LOG.isEnabledFor(logging.DEBUG):
        shown = [
            f"{word.partition('=')[0]}=…" if before in _VALUES else word
            for before, word in zip(("", *words), words, strict=False)
        ]
        LOG.debug("asked: %s", shlex.join(shown))


def follow(
    *arguments: str,
    on_line: Callable[[str], None],
    is_stopped: Callable[[], bool],
    timeout: float,
    instead: str = "",
) -> None:
    """Run one command and pass its lines on; end it once `is_stopped` returns True.

    Raise DockerError, SilentError or MachineError as `run` does.
    """
    with (
        tempfile.TemporaryFile() as errors,
        start(*arguments, stderr=errors, instead=instead) as process,
        text_of(process) as lines,
    ):
        reader = threading.Thread(target=_pass_on, args=(lines, on_line), daemon=True)
        reader.start()
        try:
            is_late = not _ended(process, is_stopped, timeout)
        finally:
            process.kill()
            code = process.wait()
            reader.join(QUICK)
        if is_stopped():
            return
        if is_late:
            raise SilentError(f"`docker {arguments[0]}` took {timeout:.0f} s", hint=_CHECK)
        if code != 0:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MOST_WORDS))
            raise failure(arguments[0], errors.read(), instead)


def text_of(process: subprocess.Popen[bytes]) -> io.TextIOWrapper:
    """Return the standard output of a process as text."""
    assert process.stdout is not None
    return io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace")


def _pass_on(lines: Iterable[str], on_line: Callable[[str], None]) -> None:
    for line in lines:
        on_line(line.rstrip("\n"))


def _ended(
    process: subprocess.Popen[bytes], is_stopped: Callable[[], bool], timeout: float
) -> bool:
    """Wait for the end, a stop or the timeout; return False after the timeout."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL)
            return True
        if is_stopped():
            return True
    return False


def inspect(kind: str, name: str) -> dict[str, Json] | None:
    """Return the output of `docker KIND inspect NAME`; None if there is no such thing."""
    try:
        found: list[dict[str, Json]] = json.loads(run(kind, "inspect", name))
    except DockerError as error:
        if "no such" in error.text.lower() or "not found" in error.text.lower():
            return None
        raise
    return found[0] if found else None


def saved(name: str, image_id: str) -> AbstractContextManager[IO[bytes]]:
    """Stream what `docker save` makes of one image; a name without a tag would give all tags.

    `image_id` is that of `name`, as `inspect` gives it.
    """
    return output_of("save", saved_name(name, image_id))


def saved_name(name: str, image_id: str) -> str:
    """Return the name under which `docker save` gives this image alone."""
    if not image_id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
        parsed = registry_images.parse(name)
        if not parsed.tag and not parsed.digest:
            return f"{name}:{registry_images.DEFAULT_TAG}"
    return name


@contextmanager
def output_of(*arguments: str) -> Iterator[IO[bytes]]:
    """Stream the output of one command, which is ended if the reader stops early."""
    with start(*arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout
        except BaseException as error:
            process.kill()
            failed = process.wait() > 0  # its own failure explains the reader's, not a signal
            if failed and isinstance(error, Exception):
                raise failure(arguments[0], process.stderr.read()) from None
            raise
        while process.stdout.read(2**16):
            pass
        if process.wait(timeout=QUICK) != 0:
            raise failure(arguments[0], process.stderr.read())


def explain(command: Sequence[str], instead: str = "") -> MachineError:
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
        return _no_client(command[0], error, instead)
    except subprocess.TimeoutExpired:
        return SilentError(f"`{shlex.join(command)}` gave no answer in {QUICK:.0f} s", hint=_CHECK)
    text = result.stderr.strip() or result.stdout.strip()
    if result.returncode == 0:  # by now
        text = "error during connect: "
    return unreachable(text, instead) or MachineError(
        f"`{shlex.join(command)}` failed: {text or _NO_WORDS}", hint=_CHECK
    )


def failure(verb: str, words: bytes, instead: str = "") -> MachineError:
    """Return the error for a command that failed, with the cause if no engine was reached."""
    text = words.decode(errors="replace").strip() or _NO_WORDS
    return unreachable(text, instead) or DockerError(verb, text)


_NO_WORDS = "it said nothing"
_WHERE = "set DOCKER_HOST to where it listens"
_SILENT = (
    r"Cannot connect to the Docker daemon at (?P<a>\S+?)\.?(?:\s|$)|daemon is not running"
    r"|error during connect: "
)
_ANSWER = "Error response from daemon: "
"""Before an engine's own words: what it says of other hosts does not concern the client."""
_VERSIONS = "the docker client and its engine do not fit: {a}"
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
        "Join the group docker and log in again",
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
        _VERSIONS,
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


def _no_client(program: str, error: OSError, instead: str) -> NoClientError:
    return NoClientError(
        f"there is no docker client {program!r} ({error.strerror})",
        hint="Install docker or podman, or set DOCKER to the client's path (one program, without "
        f"arguments){_or(instead)}",
    )


def unreachable(text: str, instead: str = "") -> MachineError | None:
    """Return why the client reached no engine; None if its words say something else."""
    is_answer = _ANSWER in text
    for pattern, what, hint in _CAUSES:
        match = re.search(pattern, text)
        if match is None or (is_answer and what != _VERSIONS):
            continue
        groups = match.groupdict()
        named = next((value.strip() for value in groups.values() if value), "")
        if "answers{a}" in what and named:
            named = f" at {named}"
        return MachineError(what.format(a=named), hint=f"{hint}{_or(instead)}")
    return None


def _or(instead: str) -> str:
    return f"; or {instead}" if instead else ""
