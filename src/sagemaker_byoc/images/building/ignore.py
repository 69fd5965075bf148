"""What a .dockerignore leaves out of a build, as its documentation describes it.

Patterns are Go's filepath.Match with `**` for any number of folders, from the context's root; `!`
takes something back in, and the last line that matches decides. What matches a folder leaves out
all that is in it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

FILE = ".dockerignore"


class Ignore:
    """`matches` wants a path relative to the context, with slashes."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._rules = [_rule(line) for line in map(str.strip, lines) if line and line[0] != "#"]
        back = [_name(line).partition("/")[0] for line in map(str.strip, lines) if line[:1] == "!"]
        self._tops = frozenset(back)
        """Below which a line takes something back in; a wildcard may mean any folder."""
        self._anywhere = any(set("*?[") & set(top) for top in back)

    def matches(self, path: str) -> bool:
        decision = False
        for leaves_out, pattern in self._rules:
            if leaves_out != decision and pattern.fullmatch(path):
                decision = leaves_out
        return decision

    def prunes(self, folder: str) -> bool:
        """Whether nothing in `folder` is ever taken back in, so that nobody need look."""
        may_return = self._anywhere or folder.partition("/")[0] in self._tops
        return not may_return and self.matches(folder)


def read(context: Path, dockerfile: Path) -> Ignore:
    """The Dockerfile's own, where it has one (BuildKit, podman), or the context's."""
    for file in (dockerfile.with_name(f"{dockerfile.name}{FILE}"), context / FILE):
        if file.is_file():
            return Ignore(file.read_text(encoding="utf-8-sig").splitlines())
    return Ignore(())


def _rule(line: str) -> tuple[bool, re.Pattern[str]]:
    leaves_out = not line.startswith("!")
    # A path below what matches is matched with it.
    return leaves_out, re.compile(f"(?:{_expression(_name(line))})(?:/.*)?", re.DOTALL)


def _name(line: str) -> str:
    return posixpath.normpath(line.lstrip("!").strip()).lstrip("/")


def _expression(pattern: str) -> str:
    made, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            made, at = made + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            made, at = made + ".*", at + 2
        elif pattern[at] == "*":
            made, at = made + "[^/]*", at + 1
        elif pattern[at] == "?":
            made, at = made + "[^/]", at + 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            made, at = made + pattern[at : end + 1], end + 1
        else:
            at += pattern[at] == "\\" and at + 1 < len(pattern)
            made, at = made + re.escape(pattern[at]), at + 1
    return made
