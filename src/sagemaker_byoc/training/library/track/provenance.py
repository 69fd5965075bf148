"""From which code and which image a run comes."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.masking import without_user
from sagemaker_byoc.contract.training.runs import Artifact
from sagemaker_byoc.contract.variables import CODE_COMMIT, CODE_REPOSITORY, IMAGE_DIGEST

GIT_SECONDS = 5.0
CHUNK = 1 << 20


def code_commit(environ: Mapping[str, str], folder: Path) -> tuple[str, str]:
    """The commit and its repository; empty where neither a variable nor a .git folder says."""
    if environ.get(CODE_COMMIT):
        return environ[CODE_COMMIT], environ.get(CODE_REPOSITORY, "")
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return "", ""
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    origin = _git(folder, "remote", "get-url", "origin")
    return commit + ("-dirty" if changes else ""), without_user(origin)


def image_digest(environ: Mapping[str, str]) -> str:
    return environ.get(IMAGE_DIGEST) or environ.get("TRAINING_IMAGE", "")


def artifact(name: str, value: str | os.PathLike[str]) -> Artifact:
    """A file with its size and SHA-256; anything else, such as an address, as it is."""
    text = os.fspath(value)
    path = Path(text)
    if not path.is_file():
        return Artifact(name, text)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return Artifact(name, text, digest.hexdigest(), path.stat().st_size)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
