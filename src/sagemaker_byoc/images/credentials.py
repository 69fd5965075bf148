"""What docker itself knows of a registry: its configuration's `auths` and credential helpers."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return f"Basic {pair}"


def docker_login(registry: str) -> Login | None:
    """None where docker has none, or its configuration can't be read: anonymous then."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        config = json.loads((folder / "config.json").read_text())
        helper = config.get("credHelpers", {}).get(registry) or config.get("credsStore")
        if helper:
            return _ask(str(helper), registry)
        encoded = config.get("auths", {}).get(registry, {}).get("auth", "")
        user, _, password = base64.b64decode(encoded).decode().partition(":")
    except (OSError, ValueError, AttributeError, binascii.Error):
        return None
    return Login(user, password) if user and password else None


def _ask(helper: str, registry: str) -> Login | None:
    try:
        result = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=registry.encode(),
            capture_output=True,
            check=True,
            timeout=_PATIENCE,
        )
        answer = json.loads(result.stdout)
        return Login(str(answer["Username"]), str(answer["Secret"]))
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None
