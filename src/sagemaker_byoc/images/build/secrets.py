"""Secrets of a build: given to BuildKit for one step, and never as an argument or a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.build.builders import LEGACY, Builder
from sagemaker_byoc.images.check.rules import secret_shapes

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PLACES = ("src", "source", "env")


def parse(text: str, environ: Mapping[str, str]) -> str:
    """Return `--secret`'s value for BuildKit; RequestError if there is nothing to read it from."""
    pairs = [part.partition("=") for part in text.split(",")]
    found = {key.strip(): value for key, _, value in pairs}
    name = found.get("id", "")
    strange = set(found) - {"id", "type", *_PLACES}
    if strange or not _ID.fullmatch(name) or not all(equals for _, equals, _ in pairs):
        raise RequestError(
            f"--secret {text!r} is not a secret of BuildKit's",
            hint="Write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE",
        )
    file = found.get("src") or found.get("source")
    if file is not None:
        if not Path(file).is_file():
            raise RequestError(f"--secret {name}: there is no file {file}", hint="Correct src=")
        return f"id={name},src={file}"
    variable = found.get("env") or name
    if variable not in environ:
        raise RequestError(
            f"--secret {name}: the variable {variable} is not set",
            hint=f"Set it, or give a file: --secret id={name},src=FILE",
        )
    return f"id={name},env={variable}"


def name_of(secret: str) -> str:
    return secret.partition(",")[0].removeprefix("id=")


def require_public(option: str, pairs: Mapping[str, str]) -> None:
    """Raise RequestError for a value that would be readable in the image's history or labels."""
    for name, value in pairs.items():
        found = secret_shapes.in_data(value.encode("utf-8", "surrogateescape"), strict=False)
        if found or secret_shapes.is_secret(name, value):
            what = f"holds {found[0].what}" if found else "is by its name a secret"
            raise RequestError(
                f"{option} {name} {what}, and everyone who has the image can read it",
                hint=f"Give it as --secret id={name},env={name}, and in the Dockerfile: "
                f"RUN --mount=type=secret,id={name} …, which reads /run/secrets/{name}",
            )


def require_support(builder: Builder, secrets: tuple[str, ...]) -> None:
    if secrets and builder.name == LEGACY:
        raise RequestError(
            f"--secret needs BuildKit, and this is {builder.title}",
            hint="apt-get install docker-buildx (docker before 23: DOCKER_BUILDKIT=1), or "
            "--builder podman",
        )
