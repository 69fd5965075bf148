"""A dataset that is a table: CSV with or without a header, JSON, JSON Lines of rows, Parquet.

Blocks of columns come out, as from captures, and as little of the file is in memory at a time.
Outputs of a transform job are tables too: their inference ids and times are not columns to watch.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, BinaryIO

from sagemaker_byoc.contract.capture import SUFFIX
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.data.columns import is_number
from sagemaker_byoc.monitor.inputs import streams
from sagemaker_byoc.monitor.inputs.captures import ROWS
from sagemaker_byoc.monitor.inputs.delimited import (
    LOOKED_AT,
    RowTexts,
    separator_of,
    split,
    without_hint,
)
from sagemaker_byoc.monitor.inputs.documents import (
    UnreadableError,
    cell,
    document_rows,
    folded,
    may_fold,
    named,
)
from sagemaker_byoc.monitor.inputs.layout import Block, Layout
from sagemaker_byoc.monitor.inputs.payloads import paired, plain
from sagemaker_byoc.monitor.inputs.streams import DataError, Opener, Unread, lines

INFERENCE_ID, INFERENCE_TIME = "SageMakerInferenceId", "SageMakerInferenceTime"
OUTPUT = "SageMakerOutput"
"""Keys of a transform job's output; in CSV, id and time are the last two cells. Sources: developer
guide, batch-transform-data-processing, and the outputs of AWS's monitoring notebooks."""
_LARGEST_DOCUMENT = 256 << 20
"""Bytes of JSON that is one document, and so has to be in memory."""
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


class Format(StrEnum):
    CSV = "csv"
    """With a header."""
    BARE_CSV = "csv-without-header"
    JSON = "json"
    """One document over several lines."""
    JSON_LINES = "jsonlines"
    PARQUET = "parquet"
    CAPTURE = "capture"


# ── what a file holds ──


def detect(name: str, stream: BinaryIO, known: Sequence[str] = ()) -> Format | None:
    """Return what the first lines look like: captured records, other JSON, a row of names, a row of
    data; None for an empty file. What is named .jsonl is never CSV. `known` are a baseline's names,
    which may be numbers."""
    texts = ((line or b"").decode(errors="replace").lstrip("\ufeff \t") for line in lines(stream))
    some = [text for text in itertools.islice(texts, LOOKED_AT) if text.strip()]
    if not some:
        return None
    if some[0][:1] in ("{", "[") or name.endswith(SUFFIX.value):
        found = _json_format(some, is_named=name.endswith(SUFFIX.value))
        if found is not None or name.endswith(".json"):
            return found or Format.JSON
    some = without_hint(some)
    cells = split(some[0], separator_of(some))
    if known and cells == [*known]:
        return Format.CSV
    return Format.BARE_CSV if any(map(is_number, cells)) else Format.CSV


def _json_format(some: list[str], *, is_named: bool) -> Format | None:
    """Return the format of JSON; None if it is not JSON after all."""
    if any('"captureData"' in text for text in some):
        return Format.CAPTURE
    parsed = sum(map(_is_json, some[1:]))
    if _is_json(some[0]) or 2 * parsed > len(some):
        return Format.JSON_LINES
    if len(some) > 1 and some[0].rstrip()[-1] in "{[,:":
        return Format.JSON
    return Format.CAPTURE if is_named else None


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


# ── rows ──


class TableReader:
    """Reader of tables.

    Rows without names get the baseline's, and are misfits of `layout` if they don't fit.
    """

    def __init__(self, form: Format, layout: Layout, *, keeps_ids: bool = False) -> None:
        """`keeps_ids`: the inference ids of a transform's output are a column, to be joined by."""
        self.form = form
        self.unread = Unread()
        self.layout = layout
        self._keeps_ids = keeps_ids
        self._separator = ","

    def blocks(self, names: Iterable[str], opener: Opener) -> Iterator[Block]:
        for name in names:
            yield from map(self._without_ids, self._file(name, opener))

    def _file(self, name: str, opener: Opener) -> Iterator[Block]:
        if self.form is Format.PARQUET:
            with opener(name) as stream:
                yield from _parquet_blocks(name, stream, self.unread)
            return
        with streams.text(opener, name, self.unread) as stream:
            if self.form is Format.JSON_LINES:
                yield from self._json_lines(name, stream)
            elif self.form is Format.JSON:
                yield from self._json(name, stream)
            else:
                yield from self._csv(name, stream)

    def _without_ids(self, block: Block) -> Block:
        ids = {INFERENCE_ID, INFERENCE_TIME} & {*block.names}
        if not ids or self._keeps_ids:
            return block
        self.unread.notice(
            "rows have an inference id or time of a transform job, which is not watched", block.rows
        )
        kept = [place for place, name in enumerate(block.names) if name not in ids]
        return Block(
            tuple(block.names[place] for place in kept), [block.columns[place] for place in kept]
        )

    # ── JSON ──

    def _json_lines(self, name: str, stream: BinaryIO) -> Iterator[Block]:
        found: list[dict[str, str]] = []
        for number, line in enumerate(lines(stream), start=1):
            if line is None or line.strip():
                self.unread.lines += 1
                found += self._document(line or b"", f"{name}:{number}")
            if len(found) >= ROWS:
                yield Block.of(found)
                found = []
        if found:
            yield Block.of(found)

    def _json(self, name: str, stream: BinaryIO) -> Iterator[Block]:
        parts: list[bytes] = []
        while sum(map(len, parts)) <= _LARGEST_DOCUMENT and (chunk := stream.read(1 << 24)):
            parts.append(chunk)
        if sum(map(len, parts)) > _LARGEST_DOCUMENT:
            raise DataError(
                f"{name} is one JSON document of more than {_LARGEST_DOCUMENT >> 20} MiB",
                hint="Write one object per line",
            )
        self.unread.lines += 1
        found = self._document(b"".join(parts), name)
        for start in range(0, len(found), ROWS):
            yield Block.of(found[start : start + ROWS])

    def _document(self, text: bytes, place: str) -> list[dict[str, str]]:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            self.unread.add("not UTF-8, not JSON, or cut off", place)
            return []
        try:
            return [*self._rows(document)]
        except UnreadableError as error:
            self.unread.add(error.what, place, error.detail)
        except (ValueError, RecursionError) as error:
            self.unread.add(
                "JSON that is too deep, or a number that is too long", place, str(error)
            )
        return []

    def _rows(self, document: Any) -> Iterator[dict[str, str]]:
        ids: dict[str, str] = {}
        said: list[Any] = []
        if isinstance(document, dict):
            document = {**document}
            for key in (INFERENCE_ID, INFERENCE_TIME):
                if isinstance(document.get(key), str):
                    ids[key] = document.pop(key)
            if OUTPUT in document:
                said = [*document_rows(document.pop(OUTPUT))]
        for row, answer in [*paired([*document_rows(document)], said)]:
            placed = self.layout.place(row, answer)
            if placed is not None:
                yield placed | ids

    # ── CSV ──

    def _csv(self, name: str, stream: BinaryIO) -> Iterator[Block]:
        """Yield blocks; rows with quotes are left to the csv module, others split all at once."""
        found = RowTexts(name, stream, self.unread)
        if found.first.lstrip("\ufeff")[:1] in ("{", "[") and _is_json(found.first):
            self.unread.lines += 1
            self.unread.add("a file of JSON among files of CSV", name)
            return
        self._separator, texts = found.separator, iter(found)
        names = self._names(name, texts) if self.form is Format.CSV else None
        while block := [*itertools.islice(texts, ROWS)]:
            if names is None:
                names = self._numbered(split(block[0], self._separator))
            yield from self._block(name, names, block)

    def _names(self, name: str, texts: Iterator[str]) -> tuple[str, ...] | None:
        """Return the header. A column without a name, such as pandas' index, gets Spark's name."""
        first = next(texts, None)
        if first is None:
            return None
        self.unread.lines -= 1
        cells = split(first.replace("\n", " "), self._separator)
        names = tuple(cell or f"_c{place}" for place, cell in enumerate(cells))
        twice = next((each for each, times in Counter(names).items() if times > 1), None)
        if twice is not None:
            raise DataError(
                f"{name} has the column name {twice!r} twice in its header",
                hint="Name each column once",
            )
        return names

    def _numbered(self, first: list[str]) -> tuple[str, ...]:
        """Return names for rows without a header; `first` is a row."""
        is_transform = (
            len(first) > 2 and _ID.fullmatch(first[-2]) and _TIME.fullmatch(first[-1]) is not None
        )
        width = len(first) - 2 if is_transform else len(first)
        names = self.layout.names or tuple(f"_c{place}" for place in range(width))
        return (*names, INFERENCE_ID, INFERENCE_TIME) if is_transform else names

    def _block(self, name: str, names: tuple[str, ...], texts: list[str]) -> Iterator[Block]:
        width, comma = len(names), self._separator
        joined = "\n".join(texts)
        if '"' not in joined and all(text.count(comma) == width - 1 for text in texts):
            cells = joined.replace("\n", comma).split(comma)
            if " " in joined or "\t" in joined:
                cells = [cell.strip() for cell in cells]
            if may_fold(joined):
                cells = folded(cells)
            yield Block(names, [cells[place::width] for place in range(width)])
            return
        rows = [row for text in texts if (row := self._parsed(name, text))]
        fit = [row for row in rows if len(row) == width]
        for row in rows:
            if len(row) != width:
                self._misfit(name, len(row), names)
        if fit:
            yield Block(names, [[row[place] for row in fit] for place in range(width)])

    def _parsed(self, name: str, text: str) -> list[str] | None:
        try:
            rows = [*csv.reader(io.StringIO(text), delimiter=self._separator)]
        except csv.Error as error:
            self.unread.add(f"CSV: {error}", name)
            return None
        if len(rows) > 1:
            self.unread.add("CSV: a line that ends within quotes", name)
        return folded([cell.strip() for cell in rows[0]]) if len(rows) == 1 else None

    def _misfit(self, name: str, width: int, names: tuple[str, ...]) -> None:
        if self.form is Format.BARE_CSV and self.layout.names and INFERENCE_ID not in names:
            self.layout.misfits[width] += 1
        else:
            told = f"{width}, not {len(names)}"
            self.unread.add(
                "a row has a different number of cells than there are columns", name, told
            )


# ── Parquet ──


_INDEX = "__index_level_"
"""pandas' index, if it is a column of the file."""


def _parquet_blocks(name: str, stream: BinaryIO, unread: Unread) -> Iterator[Block]:
    """Yield blocks, and count a file that is cut off. Raise RequestError without pyarrow."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - the user's to install
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{name} is Parquet, and the Python package pyarrow is missing",
            hint="Install it (pip install pyarrow), or save the data as CSV",
        ) from error
    try:
        whole = stream if stream.seekable() else io.BytesIO(stream.read())
        if not whole.read(1):
            return  # `_SUCCESS`, which Spark leaves beside its parts
        whole.seek(0)
        file = pq.ParquetFile(whole)
        names = [each for each in file.schema_arrow.names if not each.startswith(_INDEX)]
        twice = next((each for each in names if names.count(each) > 1), None)
        if twice is not None:
            raise DataError(f"{name} has the column {twice!r} twice", hint="Name each column once")
        for batch in file.iter_batches(batch_size=ROWS, columns=names):
            unread.lines += batch.num_rows
            yield _block(batch)
    except (pa.ArrowException, OSError, UnreadableError) as error:
        unread.lines += 1
        unread.add("a Parquet file that is damaged or cut off", name, str(error)[:120])


def _block(batch: Any) -> Block:
    """Return a batch; structs and lists become separate columns, as in JSON."""
    if any(each.type.num_fields for each in batch.schema):
        return Block.of(
            [
                named(plain({name: _text(value) for name, value in row.items()}))
                for row in batch.to_pylist()
            ]
        )
    columns = [[cell(plain(_text(value))) for value in each.to_pylist()] for each in batch]
    return Block(tuple(batch.schema.names), columns)


def _text(value: Any) -> Any:
    """Return bytes as text; what is not text in them, such as an image, is replaced."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
