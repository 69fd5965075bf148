"""The image that is checked: what it is meant for, and the user that its container runs as."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from sagemaker_byoc.images.check.rules.wrappers import shell_command
from sagemaker_byoc.images.model import File, Image

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
    """Return what an image seems to be for, if it does not say so."""
    ours = _CONTRACTS.get(image.config.labels.get(OUR_CONTRACT, ""))
    if ours:
        return frozenset({ours})
    found = {role for role in ROLES if image.on_path(role) is not None}
    found |= {role for role in ROLES if role in image.config.command}
    if _PORT in image.config.ports:
        found.add(SERVE)
    return frozenset(found)


_ROOT = frozenset({"", "0", "root"})


def user_id(image: Image) -> int | None:
    """Return the id of the image's user; None if it is unknown."""
    name = image.config.user.partition(":")[0]
    if name in _ROOT:
        return 0
    if name.isdecimal():
        return int(name)
    entries = _entries(image, "/etc/passwd")
    found = (entries or {}).get(name, "")
    return int(found) if found.isdecimal() else None


def missing_user(image: Image) -> tuple[str, str] | None:
    """Return the name in USER that no file of the image defines, and that file."""
    user, _, group = image.config.user.partition(":")
    for name, path in ((user, "/etc/passwd"), (group, "/etc/group")):
        if name in _ROOT or name.isdecimal():
            continue
        entries = _entries(image, path)
        if entries is not None and name not in entries:
            return name, path
    return None


def may_execute(file: File, uid: int | None) -> bool:
    """Tell whether the user may execute `file`; with an unknown group, rather yes."""
    if not uid:
        return bool(file.mode & 0o111)
    return bool(file.mode & (0o100 if file.uid == uid else 0o011))


def _entries(image: Image, path: str) -> dict[str, str] | None:
    """Return names and ids of a file like /etc/passwd; None if it was not read whole."""
    if image.files is None:
        return None
    file = image.files.find(path)
    if file is None:
        return {}
    if file.head is None or file.size > len(file.head):
        return None
    lines = (line.split(":") for line in file.head.decode(errors="replace").splitlines())
    return {words[0]: words[2] for words in lines if len(words) > 2}
