"""Labels of a built image: its base image, the torch that it holds, the commit it is built from."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.gpu import CUDA_LABEL, DRIVER_LABEL, OLDEST_DRIVER
from sagemaker_byoc.contract.masking import without_user
from sagemaker_byoc.host.registry_images import Reference, parse
from sagemaker_byoc.images.build.builders import BUILDAH, Ask, Builder

NAME_LABEL = "org.opencontainers.image.base.name"
DIGEST_LABEL = "org.opencontainers.image.base.digest"
SCRATCH = "scratch"
_FROM = re.compile(
    r"FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?\s*$", re.IGNORECASE
)
_ARG = re.compile(r"ARG\s+(?P<pairs>.+)$", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?::?(?P<how>[-+])(?P<word>[^}]*))?\})")


def base_of(dockerfile: str, arguments: Mapping[str, str]) -> str:
    """Return the last stage's image that no stage makes; empty for scratch and what is unclear."""
    values: dict[str, str] = {}
    stages: dict[str, str] = {}
    last = ""
    for line in _instructions(dockerfile):
        if found := _FROM.match(line):
            image = _filled(found["image"], values)
            last = stages.get(image.lower(), image)
            stages[str(len(stages))] = last
            if found["name"]:
                stages[_filled(found["name"], values).lower()] = last
        elif not stages and (found := _ARG.match(line)):
            values |= _arguments(found["pairs"], values, arguments)
    return "" if last == SCRATCH or "$" in last else last


def labels(base: str, builder: Builder, ask: Ask) -> dict[str, str]:
    """Return the labels of the OCI's annotations; the digest if the name or the engine has it."""
    if not base:
        return {}
    try:
        name = parse(base)
    except RequestError:
        return {}
    found = {NAME_LABEL: base}
    if name.digest:
        return found | {DIGEST_LABEL: name.digest}
    if builder.name == BUILDAH:
        return found
    form = "{{json .RepoDigests}}"
    said = ask([builder.command[0], "image", "inspect", "--format", form, base])
    try:
        digests = json.loads(said or "null") or []
    except ValueError:
        digests = []
    for pinned in digests:
        with suppress(RequestError):  # a name that only the engine takes
            there = parse(str(pinned))
            if _place(there) == _place(name):
                return found | {DIGEST_LABEL: there.digest}
    return found


def _place(name: Reference) -> tuple[str, str]:
    """Return registry and repository, without those that stand for Docker Hub."""
    if name.registry in {"", "docker.io", "index.docker.io"}:
        return "", name.repository.removeprefix("library/")
    return name.registry, name.repository


def _instructions(dockerfile: str) -> Iterator[str]:
    """Yield each line with what continues it, without comments."""
    held = ""
    for line in dockerfile.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        held += text.removesuffix("\\")
        if not text.endswith("\\"):
            yield held
            held = ""
    if held:
        yield held


def _arguments(
    pairs: str, values: Mapping[str, str], given: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for word in pairs.split():
        name, _, default = word.partition("=")
        yield name, given.get(name, _filled(default.strip("\"'"), values))


def _filled(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match["plain"] or match["name"]
        found = values.get(name, "")
        if match["how"] == "-":
            return found or match["word"]
        if match["how"] == "+":
            return match["word"] if found else ""
        return found if name in values else match[0]

    # A default may hold a variable of its own: ${BUILT_FOR:-$TORCH}.
    return _VARIABLE.sub(value, _VARIABLE.sub(value, text))


TORCH_LABEL = "sagemaker-byoc.torch"
_SECONDS = 120.0
_LOOK = """\
from importlib.util import find_spec
from pathlib import Path
spec = find_spec("torch")
print(Path(spec.origin).with_name("version.py").read_text() if spec and spec.origin else "")
"""
_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*(?:'(?P<cuda>\d+\.\d+)|None)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Torch:
    """`cuda` is empty for a build without it."""

    cuda: str

    @property
    def labels(self) -> dict[str, str]:
        major = int(self.cuda.partition(".")[0] or 0)
        oldest = OLDEST_DRIVER.value.get(major)
        return {
            TORCH_LABEL: f"cuda{major}" if self.cuda else "cpu",
            CUDA_LABEL.value: self.cuda,
            DRIVER_LABEL.value: ".".join(map(str, oldest)) if oldest else "",
        }


def wrong_labels(image: str, builder: Builder, ask: Ask) -> dict[str, str] | None:
    """Return the labels of `image` that differ from its torch, with their right values.

    Empty for an image without such labels, and for buildah, which runs no image; None for one
    that can't be looked into.
    """
    if builder.name == BUILDAH:
        return {}
    client = builder.command[0]
    said = ask([client, "image", "inspect", "--format", "{{json .Config.Labels}}", image])
    found = _object(said)
    if TORCH_LABEL not in found:
        return {}
    run = [client, "run", "--rm", "--network", "none", "--entrypoint", "/opt/venv/bin/python"]
    text = ask([*run, image, "-I", "-c", _LOOK])
    match = _CUDA.search(text or "")
    if match is None:
        return None
    right = Torch(match["cuda"] or "").labels
    return {name: value for name, value in right.items() if found.get(name, "") != value}


def put(image: str, labels: Mapping[str, str], builder: Builder, platform: str) -> str:
    """Give `image` the labels, without a layer; return what went wrong, or an empty text."""
    command = [*builder.command, "--platform", platform, "--tag", image]
    for name, value in sorted(labels.items()):
        command += ["--label", f"{name}={value}"]
    try:
        done = subprocess.run(
            [*command, "-"],
            input=f"FROM {image}\n",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env=builder.variables(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or "no message").splitlines()[-1]


def _object(text: str | None) -> dict[str, str]:
    try:
        found = json.loads(text or "null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_GIT_SECONDS = 20.0
SHORT = 12
"""Digits of a commit or hash in a tag."""
_OWN = 8
"""Digits of the image's id beside a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Empty if the folder is not in a repository."""

    id: str = ""
    dirty: bool = False
    """Whether a file of the folder differs from the commit, or is not in it."""
    created: str = ""
    """The commit's time, as ISO 8601."""
    source: str = ""
    """Its origin's address, without a user or password."""

    @property
    def revision(self) -> str:
        return f"{self.id}-dirty" if self.dirty else self.id


def read_commit(folder: Path) -> Commit:
    head = _git(folder, "log", "-1", "--format=%H %cI")
    if not head:
        return Commit()
    name, _, created = head.partition(" ")
    return Commit(
        id=name,
        dirty=bool(_git(folder, "status", "--porcelain", "--", ".")),
        created=created,
        source=without_user(_git(folder, "remote", "get-url", "origin")),
    )


def tag(commit: Commit, identity: str) -> str:
    """Return the commit to read, and of the image's id because one commit makes several images.

    Not of the content that was built: a build that installs packages makes another image each time.
    """
    return f"{commit.id[:SHORT]}-{identity[:_OWN]}" if commit.id else identity[:SHORT]


def _git(folder: Path, *words: str) -> str:
    """Return git's output; nothing without git, a repository or a commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
