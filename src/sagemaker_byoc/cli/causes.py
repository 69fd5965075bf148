"""Why a container failed, and what to do about it on the command line, from its own last words.

Images advise what helps inside a container (`set NAME=VALUE`); a command says how to get it there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from sagemaker_byoc.contract.hosting.http import DEFAULT_PROGRAM

_OURS = re.compile(r"byoc: (?:error: )(?:slot \d+: )?(?:loading failed: )?(.*)")
"""The cause in the log of an image of this toolkit; it comes last, if at all."""
_EXCEPTION = re.compile(r"(?:byoc: )?([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*)")
_NOISE = re.compile(r"byoc: ping: ")
_CHOICE = re.compile(r"to choose from \(([^,)]+)")
_HINTS = (
    (
        re.compile(r"\bset ((?:BYOC|SAGEMAKER)_[A-Z_]+=[^\s,.;]+)"),
        "If that is what you want, add --env {found}",
    ),
    (re.compile(r"(?:is not installed|Install what it needs): ([^;\n]+)"), "Run: {found}"),
    (
        re.compile(r"channel '([^']+)' was not given"),
        "Add --channel {found}=DIR, with the folder that holds its data",
    ),
    (
        re.compile(r"((?:without|no) model_fn)\b"),
        "Define model_fn in {handlers}, or name another --model",
    ),
    (
        re.compile(r"(no \.py file that could be the program)"),
        "Name the program's file: byoc {command} FOLDER/FILE",
    ),
)


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
    if program is not None and (choice := _CHOICE.search(cause)):
        return f"Name the file: {shlex.join(['byoc', command, str(program / choice[1])])}"
    handlers = (
        "an inference.py, and name its folder"
        if program is None
        else program / DEFAULT_PROGRAM.value
    )
    for pattern, text in _HINTS:
        if found := pattern.search(cause):
            return text.format(found=found[1], handlers=handlers, command=command)
    return ""
