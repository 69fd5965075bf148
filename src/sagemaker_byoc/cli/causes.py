"""Why a container failed, and what to do about it on the command line, from its own last words.

Images advise what helps inside a container (`set NAME=VALUE`); a command says how to get it there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

_OURS = re.compile(r"byoc: (?:error: )(?:slot \d+: )?(?:loading failed: )?(.*)")
"""The cause in the log of an image of this toolkit; it comes last, if at all."""
_EXCEPTION = re.compile(r"(?:byoc: )?([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*)")
_NOISE = re.compile(r"byoc: ping: ")
_VARIABLE = re.compile(r"\bset ((?:BYOC|SAGEMAKER)_[A-Z_]+=[^\s,.;]+)")
_INSTALL = re.compile(r"(?:is not installed|Install what it needs): ([^;\n]+)")
_CHOICE = re.compile(r"to choose from \(([^,)]+)")
_NO_PROGRAM = re.compile(r"no \.py file that could be the program")
_CHANNEL = re.compile(r"channel '([^']+)' was not given")


def of_log(lines: Sequence[str]) -> str:
    """Return the line that says why; how it ends if none does, "" for an empty log."""
    for pattern in (_OURS, _EXCEPTION):
        for line in reversed(lines):
            if found := pattern.fullmatch(line.strip()):
                return found[1]
    said = [line for line in lines if line.strip() and not _NOISE.match(line)]
    return f"its log ends with: {said[-1].strip().removeprefix('byoc: ')}" if said else ""


def hint(command: str, program: Path | None, cause: str) -> str:
    """Return what to do about `cause`; "" if there is nothing more to say than the cause does."""
    if variable := _VARIABLE.search(cause):
        return f"If that is what you want, add --env {variable[1]}"
    if install := _INSTALL.search(cause):
        return f"Run: {install[1]}"
    if channel := _CHANNEL.search(cause):
        return f"Add --channel {channel[1]}=DIR, with the folder that holds its data"
    if program is not None and (choice := _CHOICE.search(cause)):
        return f"Name the file: {shlex.join(['byoc', command, str(program / choice[1])])}"
    if _NO_PROGRAM.search(cause):
        return f"Name the program's file: byoc {command} FOLDER/FILE"
    return ""
