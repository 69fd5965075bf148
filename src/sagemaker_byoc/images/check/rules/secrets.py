"""Rules about secrets in an image. A finding names kind and place, and never shows the secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sagemaker_byoc.images.check.findings import Found, Rule, Severity, Subject
from sagemaker_byoc.images.check.rules import secret_shapes

# Made when a package is installed; they open nothing outside of the image.
_GENERATED = ("/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/pki/tls/private/localhost.key")
_INSTALLED = re.compile(r"(.*/)([^/-]+)-[^/]+\.dist-info/")
_CONFIGURED = re.compile(r"(/bin/sh -c #\(nop\)\s+)?(ENV|LABEL)\s")
"""Steps that SEC001 judges by what came of them."""


def environment(subject: Subject) -> Iterator[Found]:
    config = subject.image.config
    for kind, values in (("ENV", config.environment), ("LABEL", config.labels)):
        for name, value in values.items():
            where = f"configuration: {kind} {name}"
            found = secret_shapes.in_data(f"{name}={value}".encode(), strict=False)
            if found:
                yield Found(f"{found[0].what} in the value of {name}", where, subject=name)
            elif secret_shapes.is_secret(name, value):
                yield Found(f"{name} has a value, by its name a secret", where, subject=name)
    for kind, words in (("ENTRYPOINT", config.entrypoint), ("CMD", config.command)):
        for name, what in _in_command(" ".join(words)):
            yield Found(f"{what} {kind}", f"configuration: {kind}", subject=name)


def history(subject: Subject) -> Iterator[Found]:
    """Yield each secret once: build arguments come again with every later step."""
    said: set[str] = set()
    for number, command in enumerate(subject.image.config.history):
        if _CONFIGURED.match(command):
            continue
        for name, what in _in_command(command):
            if name not in said:
                said.add(name)
                yield Found(
                    f"{what} the command of a step", f"history, step {number + 1}", subject=name
                )


def _in_command(command: str) -> Iterator[tuple[str, str]]:
    """Yield what each secret is ignored by, and what it is; the caller names the place."""
    shapes = secret_shapes.in_data(command.encode(), strict=False)
    for shape in shapes:
        yield shape.name, f"{shape.what} in"
    if not shapes:
        for name in secret_shapes.assigned(command):
            yield name, f"a value of {name} in"


def files(subject: Subject) -> Iterator[Found]:
    if subject.image.files is None:
        return
    said: set[tuple[str, str]] = set()
    packages = _packages(subject.image.files.visible)
    for layer, file in subject.image.files.looked_into:
        if file.path in _GENERATED:
            continue
        for kind in secret_shapes.in_file(file.path, file.head or b""):
            if (file.path, kind) in said or _is_of(packages, file.path):
                continue
            said.add((file.path, kind))
            gone = file.path not in subject.image.files.visible
            buried = "; a later layer removes it, and its own layer still has it" if gone else ""
            yield Found(f"{kind}{buried}", f"{file.path}, layer {layer}", subject=file.path)


def _packages(paths: Iterable[str]) -> frozenset[str]:
    """Return the folders of Python packages, as `pip install --target` makes them anywhere."""
    found = (_INSTALLED.match(path) for path in paths if ".dist-info/" in path)
    return frozenset(f"{match[1]}{match[2].lower()}" for match in found if match is not None)


def _is_of(packages: frozenset[str], path: str) -> bool:
    """Tell whether a file is in one of them; its test keys and examples open nothing."""
    parts = path.split("/")
    return bool(packages) and any(
        "/".join([*parts[:at], parts[at].lower()]) in packages for at in range(1, len(parts))
    )


_ROTATE = "Then replace the secret where it was issued: it must count as known."
RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "SEC001",
        Severity.ERROR,
        "A secret is in the environment or a label",
        "Everyone who may pull or describe the image reads it, and so does every process in it.",
        "Remove the ENV or ARG line; give jobs a role, or the value with the request. " + _ROTATE,
        environment,
    ),
    Rule(
        "SEC002",
        Severity.ERROR,
        "A secret is in the history",
        "`docker history` shows the command and build arguments of every step.",
        "RUN --mount=type=secret,id=NAME … in the Dockerfile, and --secret at the build. "
        + _ROTATE,
        history,
    ),
    Rule(
        "SEC003",
        Severity.ERROR,
        "A secret is in a file",
        "Every layer can be fetched by itself, also one whose files a later layer removes.",
        "Name the file in .dockerignore and build again. " + _ROTATE,
        files,
    ),
)
