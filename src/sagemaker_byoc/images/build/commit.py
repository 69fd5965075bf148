"""Which commit a folder is at, for an image's tag and labels."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.masking import without_user

_SECONDS = 20.0
SHORT = 12
"""Digits of a commit or hash in a tag."""
_OWN = 8
"""Digits of the image's id beside a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Empty where the folder is in no repository."""

    id: str = ""
    dirty: bool = False
    """Whether a file of the folder differs from the commit, or is not in it."""
    created: str = ""
    """Of the commit, as ISO 8601."""
    source: str = ""
    """Its origin's address, without a user or password."""

    @property
    def revision(self) -> str:
        return f"{self.id}-dirty" if self.dirty else self.id


def read(folder: Path) -> Commit:
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
    """Its output; nothing where there is no git, no repository or no commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
