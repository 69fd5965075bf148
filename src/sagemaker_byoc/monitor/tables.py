"""A dataset that is a table: CSV with or without a header, or JSON Lines of rows.

Blocks of columns come out, as from captures, and as little of the file is in memory at a time.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import BinaryIO

from sagemaker_byoc.contract.capture import SUFFIX
from sagemaker_byoc.monitor.captures import ROWS
from sagemaker_byoc.monitor.columns import is_number
from sagemaker_byoc.monitor.documents import Row, document_rows, folded, may_fold
from sagemaker_byoc.monitor.errors import DataError
from sagemaker_byoc.monitor.layout import Block, Layout
from sagemaker_byoc.monitor.streams import Opener, Unread, lines

_LOOKED_AT = 20
"""Lines, to tell what a file holds."""
_LONGEST_ROW = 1 << 20
"""Characters of a row that goes over several lines."""


class Format(StrEnum):
    CSV = "csv"
    """With a header."""
    BARE_CSV = "csv-without-header"
    JSON_LINES = "jsonlines"
    CAPTURE = "capture"


def detect(name: str, stream: BinaryIO) -> Format | None:
    """By the first line: a captured record, another JSON value, a row of names, a row of data;
    None for an empty file. What is named .jsonl is never CSV, whatever its first line looks like.
    """
    texts = ((line or b"").decode(errors="replace").lstrip("\ufeff \t") for line in lines(stream))
    some = [text for text in itertools.islice(texts, _LOOKED_AT) if text.strip()]
    if not some:
        return None
    is_json = some[0].startswith("{")
    if is_json or name.endswith(SUFFIX.value):
        documents = [text for text in some if text.startswith("{")]
        is_table = documents and not any('"captureData"' in text for text in documents)
        return Format.JSON_LINES if is_table else Format.CAPTURE
    cells = next(csv.reader([some[0]]), [])
    has_numbers = any(is_number(cell.strip()) for cell in cells)
    return Format.BARE_CSV if has_numbers else Format.CSV


class TableReader:
    """Rows without names get the baseline's, and are misfits of `layout` if they don't fit."""

    def __init__(self, form: Format, layout: Layout) -> None:
        self.form = form
        self.unread = Unread()
        self.layout = layout

    def blocks(self, files: Iterable[str], opener: Opener) -> Iterator[Block]:
        for name in files:
            with opener(name) as stream:
                if self.form is Format.JSON_LINES:
                    yield from self._json(name, stream)
                else:
                    yield from self._csv(name, stream)

    def _json(self, name: str, stream: BinaryIO) -> Iterator[Block]:
        found: list[dict[str, str]] = []
        for number, line in enumerate(lines(stream), start=1):
            if line is not None and not line.strip():
                continue
            self.unread.lines += 1
            try:
                found += map(_by_name, document_rows(json.loads(line or b"")))
            except (ValueError, RecursionError):
                self.unread.add("not UTF-8, no JSON, or cut off", f"{name}:{number}")
            if len(found) >= ROWS:
                yield _named(found)
                found = []
        if found:
            yield _named(found)

    def _csv(self, name: str, stream: BinaryIO) -> Iterator[Block]:
        """Rows without quotes are split a block at a time; the csv module has the others."""
        texts = self._texts(name, stream)
        names = self.layout.names
        if self.form is Format.CSV:
            first = next(texts, None)
            if first is None:
                return
            names = tuple(cell.strip() for cell in _parse([first])[0])
            if len(set(names)) != len(names):
                raise DataError(
                    f"{name} has a column name twice in its header", cure="Name each column once"
                )
        while some := list(itertools.islice(texts, ROWS)):
            names = names or tuple(f"_c{place}" for place in range(len(_parse(some[:1])[0])))
            yield from self._block(name, names, some)

    def _texts(self, name: str, stream: BinaryIO) -> Iterator[str]:
        """Rows as text; a quoted cell may hold line ends."""
        parts: list[str] = []
        size = quotes = 0
        for number, line in enumerate(lines(stream), start=1):
            try:
                text = (line or b"").decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                self.unread.lines += 1
                self.unread.add("not UTF-8", f"{name}:{number}")
                continue
            parts.append(text.rstrip("\r"))
            size += len(text)
            quotes += text.count('"')
            if quotes % 2 and size < _LONGEST_ROW:
                continue
            if quotes % 2:
                raise DataError(
                    f"{name}: a quote is not closed within {_LONGEST_ROW >> 10} KiB before line "
                    f"{number}",
                    cure="Quote cells as RFC 4180 has it",
                )
            row = "\n".join(parts)
            parts, size, quotes = [], 0, 0
            if row.strip():
                self.unread.lines += 1
                yield row
        if parts:
            self.unread.lines += 1
            self.unread.add("a quote that is never closed", name)

    def _block(self, name: str, names: tuple[str, ...], texts: list[str]) -> Iterator[Block]:
        width = len(names)
        joined = "\n".join(texts)
        if '"' not in joined and all(text.count(",") == width - 1 for text in texts):
            cells = joined.replace("\n", ",").split(",")
            if " " in joined or "\t" in joined:
                cells = [cell.strip() for cell in cells]
            if may_fold(joined):
                cells = folded(cells)
            yield Block(names, [cells[place::width] for place in range(width)])
            return
        rows = [folded([cell.strip() for cell in row]) for row in _parse(texts) if row]
        fit = [row for row in rows if len(row) == width]
        for row in rows:
            if len(row) != width:
                if names == self.layout.names and self.form is Format.BARE_CSV:
                    self.layout.misfits[len(row)] += 1
                else:
                    self.unread.add(f"{len(row)} cells where there are {width} columns", name)
        if fit:
            yield Block(names, [[row[place] for row in fit] for place in range(width)])


def _by_name(row: Row) -> dict[str, str]:
    if isinstance(row, dict):
        return row
    return {f"_c{place}": cell for place, cell in enumerate(row)}


def _named(found: list[dict[str, str]]) -> Block:
    names = tuple(dict.fromkeys(name for row in found for name in row))
    return Block(names, [[row.get(name, "") for row in found] for name in names])


def _parse(texts: list[str]) -> list[list[str]]:
    try:
        return [*csv.reader(io.StringIO("\n".join(texts)))]
    except csv.Error as error:
        raise DataError(
            f"a row is no CSV: {error}", cure="Quote cells as RFC 4180 has it"
        ) from error
