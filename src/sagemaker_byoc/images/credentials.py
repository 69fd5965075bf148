"""Logins of registries: what docker's configuration knows, and a private copy of it to lend."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SECONDS = 20.0
"""For a credential helper to answer."""


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        return f"Basic {self.encoded}"

    @property
    def encoded(self) -> str:
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def docker_login(registry: str) -> Login | None:
    """Return docker's login; None if it has none or its configuration can't be read."""
    config = _configuration()
    try:
        helper = config.get("credHelpers", {}).get(registry) or config.get("credsStore")
        if helper:
            return _ask(str(helper), registry)
        encoded = config.get("auths", {}).get(registry, {}).get("auth", "")
        user, _, password = base64.b64decode(encoded).decode().partition(":")
    except (ValueError, AttributeError, binascii.Error):
        return None
    return Login(user, password) if user and password else None


def lend_with_helper(folder: Path, helper: str, hosts: list[str]) -> None:
    """Write docker's configuration into `folder`, with a credential helper for `hosts`."""
    document = _configuration()
    helpers = document.get("credHelpers")
    own = helpers if isinstance(helpers, dict) else {}
    _lend(folder, {**document, "credHelpers": {**own, **dict.fromkeys(hosts, helper)}})


def lend_logins(folder: Path, logins: Mapping[str, Login]) -> None:
    """Write docker's configuration into `folder`, with these logins and no others."""
    kept = _configuration()
    for name in ("auths", "credHelpers", "credsStore"):
        kept.pop(name, None)
    auths = {registry: {"auth": login.encoded} for registry, login in logins.items()}
    _lend(folder, {**kept, "auths": auths})


def _lend(folder: Path, document: Mapping[str, Any]) -> None:
    path = folder / "config.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file)
    own = _folder()
    for entry in own.iterdir() if own.is_dir() else ():
        if entry.name != "config.json":  # plug-ins and contexts
            (folder / entry.name).symlink_to(entry.resolve())


def _folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _configuration() -> dict[str, Any]:
    try:
        found = json.loads((_folder() / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _ask(helper: str, registry: str) -> Login | None:
    try:
        result = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=registry.encode(),
            capture_output=True,
            check=True,
            timeout=_SECONDS,
        )
        answer = json.loads(result.stdout)
        return Login(str(answer["Username"]), str(answer["Secret"]))
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None
