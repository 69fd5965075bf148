"""The programs that copy an image into a registry: skopeo and docker.

A program ends with the push, and is stopped if it makes no progress. What happens to each layer is
read from its output; on a terminal its own progress bars are shown.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from sagemaker_byoc.contract.errors import ByocError, MachineError
from sagemaker_byoc.host import docker
from sagemaker_byoc.host.children import Child, Process
from sagemaker_byoc.host.docker import note_command
from sagemaker_byoc.host.registry_images import Reference
from sagemaker_byoc.images.model import HostileError, ImageError, RegistryError, TrustError
from sagemaker_byoc.images.registry import refusal_hint

STILL_SECONDS = 120.0
"""After so long without input or output, the registry is taken not to answer."""
SKOPEO_NOISE = 64 * 2**10
"""Bytes that a waiting process may read and write meanwhile."""
DOCKER_NOISE = 256
"""docker's client reads only what its engine says of the progress, and then nothing."""
_LOOK = 2.0
_KEPT = 20
SKOPEO_ATTEMPTS, DOCKER_ATTEMPTS = 4, 2
"""Attempts at a copy: each sends what the one before did not. docker repeats a layer for 50 s."""
FIRST_WAIT = 1.0
"""Seconds before the second attempt; doubled each time."""
_MAY_PASS = re.compile(
    r"\bEOF\b|connection reset|closed network connection|broken pipe|timeout|timed out|"
    r"server closed|too ?many ?requests|HTTP status: (408|429|5\d\d)",
    re.IGNORECASE,
)
_PUT = re.compile(r"PUT \S+[?&]digest=(sha256(?::|%3A)[0-9a-f]{64})")
_MOUNT = re.compile(r"POST \S+[?&]mount=(sha256(?::|%3A)[0-9a-f]{64})")
_FATAL = re.compile(r'level=fatal msg="(.*)"$')
_PUSHED = re.compile(r"^([0-9a-f]{12}): (Pushed|Mounted from|Layer already exists)")
_RETRYING = re.compile(r"^([0-9a-f]{12}): Retrying in (\d+) second")
_DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64}) size:")


class How(StrEnum):
    THERE = "there"
    """The registry had it."""
    MOUNTED = "mounted"
    """Taken over from another repository of the registry."""
    SENT = "sent"


class Screen(Protocol):
    """Where a push says what it does."""

    @property
    def is_terminal(self) -> bool:
        """Whether a program may draw its progress on standard error."""

    def note(self, text: str) -> None:
        """Show one step."""

    def layer(self, number: int, name: str, how: How) -> None:
        """Show that a layer has arrived."""


@dataclass(slots=True)
class Layers:
    """What happened to each layer, by a program's output.

    `by_name` has digests of packed layers (skopeo), or the first digits of unpacked ones (docker).
    """

    screen: Screen
    by_name: dict[str, How] = field(default_factory=dict)
    digest: str = ""
    """Digest of the manifest, as docker prints it."""
    config_digest: str = ""
    """Digest of the configuration, which is sent as layers are."""
    _waits: dict[str, int] = field(default_factory=dict)

    def read(self, line: str) -> None:
        if found := _PUT.search(line):
            self._arrived(unquote(found[1]), How.SENT)
        elif found := _MOUNT.search(line):
            self.by_name[unquote(found[1])] = How.MOUNTED
        elif found := _PUSHED.match(line):
            kinds = {"Pushed": How.SENT, "Mounted from": How.MOUNTED}
            self._arrived(found[1], kinds.get(found[2], How.THERE))
        elif found := _RETRYING.match(line):
            self._waits_for(found[1], int(found[2]))
        elif found := _DIGEST.search(line):
            self.digest = found[1]

    def _waits_for(self, name: str, seconds: int) -> None:
        """Show the start of each of docker's countdowns."""
        if seconds > self._waits.get(name, 0):
            self.screen.note(f"layer {name} broke off; again in {seconds} s")
        self._waits[name] = seconds

    def _arrived(self, name: str, how: How) -> None:
        if name == self.config_digest:
            return
        self.by_name[name] = how
        if not self.screen.is_terminal:
            short = name.partition(":")[2][:12] or name
            self.screen.layer(len(self.by_name), short, how)


def has_skopeo() -> bool:
    return shutil.which("skopeo") is not None


def skopeo_copy(  # noqa: PLR0913 - one command line
    source: str, target: Reference, *, folder: Path, platform: str, source_tls: bool, tls: bool
) -> list[str]:
    """Return the command that copies one image, in Docker's media types and without signatures."""
    system, machine = platform.split("/")
    words = ["skopeo", "--debug", "--insecure-policy", "--tmpdir", str(folder)]
    words += ["--override-os", system, "--override-arch", machine]
    words += ["copy", "--format", "v2s2", "--remove-signatures"]
    words += ["--authfile", str(folder / "config.json")]
    words += ["--digestfile", str(folder / "digest")]
    words += [] if source_tls else ["--src-tls-verify=false"]
    words += [] if tls else ["--dest-tls-verify=false"]
    return [*words, source, f"docker://{target}"]


def run(
    words: Sequence[str],
    line: Callable[[str], None],
    *,
    environment: Mapping[str, str] | None = None,
    shown: bool = False,
    noise: int | None = None,
) -> None:
    """Run a program to its end, and give each line of its output to `line`.

    With `shown`, its standard output goes to the terminal instead. Raise CopyError with its last
    words if it fails, RegistryError if it makes no progress: it moves no more bytes than `noise`.
    """
    note_command(words)

    def started() -> Process:
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if shown else subprocess.PIPE,
                stderr=subprocess.PIPE if shown else subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(
                f"{words[0]} can't be started: {error.strerror}", hint="Install skopeo or docker"
            ) from error

    last: list[str] = []

    def keep(text: str) -> None:
        line(text)
        if "level=debug" not in text:
            last[:] = [*last, text][-_KEPT:]

    with Child(started, _kill_session) as process:
        _read(process, keep, noise)
        status = process.wait()
    if status != 0:
        raise CopyError(words[0], _last_words(last))


def _kill_session(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def repeated(action: Callable[[], None], note: Callable[[str], None], attempts: int) -> None:
    """Do `action` again, up to `attempts` times, if it fails with a CopyError that may pass."""
    for attempt in range(1, attempts):
        try:
            return action()
        except CopyError as error:
            if not _MAY_PASS.search(error.text):
                raise
            wait = FIRST_WAIT * 2 ** (attempt - 1)
            note(f"{error.text}; again in {wait:.1f} s ({attempt} of {attempts - 1})")
            time.sleep(wait)
    return action()


class CopyError(Exception):
    """A program failed; `text` is what it said. `explained` makes a ByocError of it."""

    def __init__(self, program: str, text: str) -> None:
        self.program, self.text = program, text
        super().__init__(f"{program}: {text}")


def _read(process: subprocess.Popen[bytes], keep: Callable[[str], None], noise: int | None) -> None:
    stream = process.stdout or process.stderr
    assert stream is not None
    pending = b""
    moved, moved_at = _moved(process.pid), time.monotonic()
    while True:
        if select.select([stream], [], [], _LOOK)[0]:
            data = os.read(stream.fileno(), 2**16)
            if not data:
                break
            *lines, pending = (pending + data).replace(b"\r", b"\n").split(b"\n")
            for text in lines:
                keep(text.decode(errors="replace").rstrip())
        if noise is not None and (now := _moved(process.pid)) is not None:
            if moved is None or now - moved > noise:
                moved, moved_at = now, time.monotonic()
            elif time.monotonic() - moved_at > STILL_SECONDS:
                raise RegistryError(
                    f"the registry has received nothing for {STILL_SECONDS:.0f} s",
                    hint="Run it again: what arrived is not sent again",
                )
    keep(pending.decode(errors="replace").rstrip())


def _moved(pid: int) -> int | None:
    """Return the bytes that a process has read and written; None if the kernel does not say."""
    try:
        text = Path(f"/proc/{pid}/io").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines()[:2])
    except (OSError, ValueError, IndexError):
        return None


def _last_words(lines: Sequence[str]) -> str:
    """Return skopeo's fatal message, or else the last line."""
    for text in reversed(lines):
        if found := _FATAL.search(text):
            with suppress(ValueError):
                return str(json.loads(f'"{found[1]}"'))
            return found[1]
    return next((text for text in reversed(lines) if text), "no message")


_TRUST_HINT = "Name the authority's file in SSL_CERT_FILE (AWS_CA_BUNDLE does as well)"
_DAMAGE_HINT = "The image is damaged where it is kept: build or save it again"
_PLAIN_HINT = "Install skopeo, or list the registry in the engine's insecure-registries"
_REASONS: tuple[tuple[str, type[ImageError], str], ...] = (
    ("x509|certificate", TrustError, _TRUST_HINT),
    ("did not match|digest.invalid", HostileError, _DAMAGE_HINT),
    ("http response to https client", RegistryError, _PLAIN_HINT),
)


def explained(error: CopyError, target: Reference, tag_hint: str, folder: Path) -> ByocError:
    """Return a program's failure with a hint that fits its words."""
    text = error.text.lower()
    what = f"{target.registry} did not get the image. {error}"
    if "no space left" in text:
        hint = "Make room, or set TMPDIR to a folder on a larger disk"
        return MachineError(f"no room in {folder.parent}: {error.text}", hint=hint)
    if "immutable" in text:
        return RegistryError(what, hint=tag_hint)
    for words, kind, hint in _REASONS:
        if re.search(words, text):
            return kind(what, hint=hint)
    is_denied = re.search("denied|unauthorized|no basic auth|forbidden|not authorized", text)
    again = "Run it again: what arrived is not sent again"
    hint = refusal_hint(target, 403) if is_denied else again
    return docker.unreachable(error.text) or RegistryError(what, hint=hint)
