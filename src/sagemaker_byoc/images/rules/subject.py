"""What the static rules look at: the image, and what it is meant for."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from sagemaker_byoc.images.model import Image

TRAIN = "train"
SERVE = "serve"
ROLES = (TRAIN, SERVE)
OUR_CONTRACT = "sagemaker-byoc.contract"
_CONTRACTS = {"training": TRAIN, "hosting": SERVE}
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
_INITS = frozenset({"tini", "dumb-init", "docker-init"})
_PORT = "8080/tcp"


@dataclass(frozen=True, slots=True)
class Subject:
    image: Image
    roles: frozenset[str]

    @property
    def shell_form(self) -> str:
        """The command line of an ENTRYPOINT in shell form, or nothing."""
        entry = self.image.entry
        if len(entry) == 3 and posixpath.basename(entry[0]) in _SHELLS and entry[1] == "-c":
            return entry[2]
        return ""

    @property
    def init(self) -> str:
        """The name of an init that would start the argument itself, or nothing."""
        words = [word for word in self.image.entry if word != "--" and not word.startswith("-")]
        if len(words) == 1 and posixpath.basename(words[0]) in _INITS:
            return words[0]
        return ""

    @property
    def starts_argument(self) -> bool:
        """Whether `train` or `serve` itself is what the engine looks for on PATH."""
        return not self.image.entry or bool(self.init)


def roles_of(image: Image) -> frozenset[str]:
    """What an image seems to be for, where nobody says it."""
    ours = _CONTRACTS.get(image.config.labels.get(OUR_CONTRACT, ""))
    if ours:
        return frozenset({ours})
    found = {role for role in ROLES if image.on_path(role) is not None}
    found |= {role for role in ROLES if role in image.config.command}
    if _PORT in image.config.ports:
        found.add(SERVE)
    return frozenset(found)
