"""The user that a container runs as."""

from __future__ import annotations

from sagemaker_byoc.images.model import File, Image

_ROOT = frozenset({"", "0", "root"})


def uid(image: Image) -> int | None:
    """Return the id of the image's user; None if it is unknown."""
    name = image.config.user.partition(":")[0]
    if name in _ROOT:
        return 0
    if name.isdecimal():
        return int(name)
    entries = _entries(image, "/etc/passwd")
    found = (entries or {}).get(name, "")
    return int(found) if found.isdecimal() else None


def missing(image: Image) -> tuple[str, str] | None:
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
