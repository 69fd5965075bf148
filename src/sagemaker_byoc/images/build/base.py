"""The image that a Dockerfile's last stage builds on, and its digest, for the image's labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.image_reference import Reference, parse
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
    """Each line with what continues it, without comments."""
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
