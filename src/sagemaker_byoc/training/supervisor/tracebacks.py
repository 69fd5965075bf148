"""Python tracebacks in the end of a log, as data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')
HEADER = "Traceback (most recent call last):"
LINKS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
# An exception group is drawn with a margin, and with rules between its members.
MARGIN = re.compile(r"^(?: *\| |  \+ (?=Exception Group Traceback)| *\+[-+]{3}.*)")
TORCH_LABEL = re.compile(r"^\[rank\d+\]: ?")
"""Torch's, before each line of a traceback of a rank."""
GROUP_HEADER = f"Exception Group {HEADER}"
LAUNCHER = "ChildFailedError"
"""Torchrun's own traceback, which comes after its child's and says nothing."""
FOREIGN = ("/site-packages/", "/dist-packages/", "<frozen ", "/lib/python3")


@dataclass(frozen=True, slots=True)
class Frame:
    file: str
    line: int
    function: str
    code: str

    @property
    def is_users(self) -> bool:
        return not any(part in self.file for part in FOREIGN)


@dataclass(frozen=True, slots=True)
class Traceback:
    """One exception, and the one that the chain began with."""

    exception: str
    """Its last line or lines: type and message."""
    frames: tuple[Frame, ...]
    """Outermost first; for a SyntaxError, the place that can't be parsed."""
    root: str | None
    """The type and message of the first exception of the chain, where there is a chain."""
    is_at_end: bool
    """Nothing of weight comes after it: it is what ended the program."""


@dataclass(frozen=True, slots=True)
class _Block:
    exception: str
    frames: tuple[Frame, ...]
    end: int


def last_traceback(text: str) -> Traceback | None:
    """The last complete traceback in `text`, with its chain."""
    lines = [MARGIN.sub("", TORCH_LABEL.sub("", line)) for line in text.splitlines()]
    blocks = [block for block in _blocks(lines) if LAUNCHER not in block.exception]
    if not blocks:
        return None
    last = first = len(blocks) - 1
    while first > 0 and _is_linked(lines, blocks[first - 1]):
        first -= 1
    return Traceback(
        exception=blocks[last].exception,
        frames=blocks[last].frames,
        root=blocks[first].exception if first < last else None,
        is_at_end=len([line for line in lines[blocks[last].end :] if line.strip()]) <= 2,
    )


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """Runs of frames with the exception below each; a SyntaxError's has no header above."""
    frames: list[Frame] = []
    for number, line in enumerate(lines):
        if line in (HEADER, GROUP_HEADER):
            frames = []
        elif found := FRAME.fullmatch(line):
            frames.append(_frame(found, lines[number + 1 : number + 2]))
        elif frames and line and not line.startswith(" "):
            end = _end_of_message(lines, number + 1)
            yield _Block(_join(lines[number:end]), tuple(frames), end)
            frames = []


def _frame(found: re.Match[str], below: list[str]) -> Frame:
    code = below[0].strip() if below and below[0].startswith("    ") else ""
    return Frame(found["file"], int(found["line"]), found["function"] or "", code)


def _end_of_message(lines: list[str], start: int) -> int:
    """A message may go on over indented lines (a state dict's missing keys do)."""
    end = start
    while end < len(lines) and lines[end].startswith(("\t", "  ")) and not FRAME.match(lines[end]):
        end += 1
    return end


def _join(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def _is_linked(lines: list[str], block: _Block) -> bool:
    following = [line for line in lines[block.end : block.end + 3] if line.strip()]
    return bool(following) and following[0] in LINKS
