"""What the static rules look at: the image, and what it is meant for."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from sagemaker_byoc.images.check.rules.wrappers import shell_command
from sagemaker_byoc.images.model import Image

TRAIN = "train"
SERVE = "serve"
ROLES = (TRAIN, SERVE)
OUR_CONTRACT = "sagemaker-byoc.contract"
_CONTRACTS = {"training": TRAIN, "hosting": SERVE}
_INITS = frozenset({"tini", "dumb-init", "docker-init"})
_PORT = "8080/tcp"
_ENDS_IN_EXEC = re.compile(r"^\s*exec\s|(?:;|&&?|\|\||\n)\s*exec\s(?:[^;&|\n]|>&|&>)*$")


@dataclass(frozen=True, slots=True)
class Subject:
    image: Image
    roles: frozenset[str]

    @property
    def shell_form(self) -> str:
        """The command line of an ENTRYPOINT that drops the argument in a shell, or nothing.

        A line with $0 or "$@" passes it on; one that ends in `exec` leaves no shell behind, and an
        image for one role alone can do without the argument.
        """
        command = shell_command(self.image.entry)
        if command is None or command.uses_arguments:
            return ""
        replaced = _ENDS_IN_EXEC.search(command.line) is not None and len(self.roles) < 2
        return "" if replaced else command.line

    @property
    def init(self) -> str:
        """The name of an init that would start the argument itself, or nothing."""
        words = [word for word in self.image.entry if word != "--" and not word.startswith("-")]
        if len(words) == 1 and posixpath.basename(words[0]) in _INITS:
            return words[0]
        return ""


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
