"""Delimited text: what separates the cells, and which lines are one row.

Python's csv module does the rest.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from typing import BinaryIO

from sagemaker_byoc.monitor.inputs.streams import Unread, lines

LOOKED_AT = 20
"""Lines, to tell what a file holds."""
_LONGEST_ROW = 1 << 20
"""Characters of a row of several lines."""
_SEPARATORS = ",;\t|"
_HINT = re.compile(r"sep=[,;\t|]", re.IGNORECASE)
"""A first line for Excel."""


def separator_of(some: list[str]) -> str:
    """Return what separates cells: a comma, unless every line has as many of another one and the
    commas are within the cells: in the header there is none, or all are decimal."""
    found = {each: _widths(some, each) for each in _SEPARATORS}
    fitting = [each for each in _SEPARATORS[1:] if len(found[each]) == 1 and max(found[each]) > 1]
    if not fitting:
        return ","
    best = max(fitting, key=lambda each: max(found[each]))
    has_commas = "," in some[0]
    is_decimal = all(re.search(r"(?<!\d),|,(?!\d)", text) is None for text in some)
    is_ragged = len(found[","]) > 1
    return best if not has_commas or is_decimal or is_ragged else ","


def _widths(some: list[str], separator: str) -> set[int]:
    """Return the numbers of cells of the first rows; quoted cells may hold line ends, and the last
    row of several lines may be cut off."""
    try:
        rows = [*csv.reader((f"{text}\n" for text in some), delimiter=separator)]
    except csv.Error:
        return {0}
    is_cut = len(rows) > 1 and "".join(some).count('"') % 2 == 1
    return {len(row) for row in (rows[:-1] if is_cut else rows)} or {0}


def split(text: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=separator), [])]
    except csv.Error:
        return []


def without_hint(some: list[str]) -> list[str]:
    return some[1:] if len(some) > 1 and _HINT.fullmatch(some[0].strip()) else some


class RowTexts:
    """The rows of a file as text; a quoted cell may hold line ends. What can't be used is counted
    in `unread`, and what was guessed is noted there."""

    def __init__(self, name: str, stream: BinaryIO, unread: Unread) -> None:
        self._name = name
        self._unread = unread
        raw = self._decoded(stream)
        some = [*itertools.islice(raw, LOOKED_AT)]
        if some and _HINT.fullmatch(some[0][1].strip()):
            some = some[1:]
        filled = [text for _, text in some if text.strip()]
        self.first = filled[0] if filled else ""
        self.separator = separator_of(filled or [""])
        self._raw = itertools.chain(some, raw)
        if self.separator != ",":
            unread.notice(f"files are separated by {self.separator!r}")

    def __iter__(self) -> Iterator[str]:
        return self._joined(self._raw)

    def _decoded(self, stream: BinaryIO) -> Iterator[tuple[int, str]]:
        """Yield lines with their numbers. What is not UTF-8 is Windows-1252 in nearly all files."""
        for number, line in enumerate(lines(stream), start=1):
            if line is None:
                self._unread.lines += 1
                self._unread.add("a line that is too long", f"{self._name}:{number}")
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self._unread.notice("lines are not UTF-8, and were read as Windows-1252")
                text = line.decode("cp1252", errors="replace")
            yield number, text.rstrip("\r")

    def _joined(self, raw: Iterator[tuple[int, str]]) -> Iterator[str]:
        """Yield rows as text; a quoted cell may hold line ends."""
        parts: list[str] = []
        size, start = 0, 0
        for number, text in raw:
            has_odd_quotes = text.count('"') % 2 == 1
            if not parts and not (has_odd_quotes and self._opens(text)):
                yield from self._row(text)
                continue
            start = start if parts else number
            parts.append(text)
            size += len(text)
            if len(parts) > 1 and has_odd_quotes:
                yield from self._row("\n".join(parts))
                parts, size = [], 0
            elif size > _LONGEST_ROW:
                yield from self._unclosed(f"{self._name}:{start}", parts)
                parts, size = [], 0
        if parts:
            yield from self._unclosed(f"{self._name}:{start}", parts)

    def _opens(self, text: str) -> bool:
        """Whether a quote is left open. One within a cell (`5" pipe`) is only a character."""
        comma = re.escape(self.separator)
        rest = re.sub(rf'(^|{comma})"(?:[^"]|"")*"(?={comma}|\s*$)', r"\1", text)
        return re.search(rf'(?:^|{comma})"', rest) is not None

    def _row(self, text: str) -> Iterator[str]:
        if text.strip():
            self._unread.lines += 1
            yield text

    def _unclosed(self, place: str, parts: list[str]) -> Iterator[str]:
        """Drop the line with the quote, and keep those after it."""
        self._unread.lines += 1
        self._unread.add("a quote that is never closed", place)
        for text in parts[1:]:
            yield from self._row(text)
