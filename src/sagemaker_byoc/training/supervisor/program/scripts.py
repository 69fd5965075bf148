"""Programs that are not written in Python: what would go wrong is found before they start."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError

SHEBANG = b"#!"
HEAD = 4096
MOST = 1024 * 1024
"""Bytes of a script that are looked through for carriage returns."""
MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-8 and UTF-16."""
HEREDOC = re.compile(rb"(?<!<)<<-?[ \t]*['\"\\]?([A-Za-z_]\w*)")
"""What begins a here-document, and its last line."""
BINARY = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""ELF and, for a job without a container on macOS, Mach-O."""


def check_shell(path: Path) -> None:
    """Raise ContractError for a shell script with the line ends or the marks of Windows.

    bash would take the carriage return for a part of each last word, report commands that do not
    exist, and may still end with 0.
    """
    text = _read(path, MOST)
    _check_mark(path, text)
    is_windows = b"\r\n" in text and any(line.endswith(b"\r") for line in _commands(text))
    if is_windows or (b"\r" in text and b"\n" not in text):
        raise _windows_lines(path, "lines that end with a carriage return")


def _commands(text: bytes) -> Iterator[bytes]:
    """Yield the lines outside of here-documents, which may hold carriage returns on purpose."""
    lines = text.split(b"\n")
    last = {line.lstrip(b"\t"): number for number, line in enumerate(lines)}
    ends: list[bytes] = []
    for number, line in enumerate(lines):
        if ends:
            ends = ends[1:] if line.lstrip(b"\t") == ends[0] else ends
            continue
        yield line
        # a << b is also a shift of bits: no line ends it.
        ends = [end for end in HEREDOC.findall(line) if last.get(end, 0) > number]


def interpreter_of(path: Path) -> tuple[str, ...]:
    """Return the interpreter that the first line names (#!), and its argument; none for a binary.

    Started by its interpreter, a script needs no x bit, and runs on a file system that is mounted
    noexec. Raise ContractError if it can't be a program.
    """
    text = _read(path, HEAD)
    _check_mark(path, text)
    if not text.startswith(SHEBANG):
        if text.startswith(BINARY):
            return ()
        raise ContractError(
            where=str(path),
            what="is neither a .py nor a .sh file, nor a binary, and its first line does not begin "
            "with #!",
            hint="Name a .py or .sh file, or begin it with a line such as #!/bin/sh",
        )
    line = text.removeprefix(SHEBANG).partition(b"\n")[0]
    if line.endswith(b"\r"):
        raise _windows_lines(path, "a first line (#!) that ends with a carriage return")
    words = [os.fsdecode(word) for word in line.strip().split(maxsplit=1)]
    if not words or not os.access(words[0], os.X_OK):
        raise ContractError(
            where=str(path),
            what=f"names an interpreter that is not here: {' '.join(words) or 'none'}",
            hint="Correct its first line (#!), or install the interpreter where the program runs",
        )
    return tuple(words)


def make_executable(path: Path) -> None:
    """Set the x bit that archives and S3 lose, as sagemaker-training does."""
    if os.access(path, os.X_OK):
        return
    try:
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise ContractError(
            where=str(path),
            what=f"is not executable, and can't be made so ({error.strerror})",
            hint="Make it executable (chmod +x) before it is packed",
        ) from error


def _read(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise ContractError(
            where=str(path),
            what=f"can't be read ({error.strerror})",
            hint="Make it readable for the container's user (chmod a+r)",
        ) from error


def _check_mark(path: Path, text: bytes) -> None:
    if text.startswith(MARKS):
        raise ContractError(
            where=str(path),
            what="begins with a byte order mark, which an editor of Windows put there",
            hint="Save it as UTF-8 without BOM",
        )


def _windows_lines(path: Path, what: str) -> ContractError:
    return ContractError(
        where=str(path),
        what=f"has {what}, as an editor or Git on Windows writes them",
        hint=f"Convert it: sed -i 's/\\r$//' {path.name}; and keep it so: put "
        "'*.sh text eol=lf' into .gitattributes",
    )
