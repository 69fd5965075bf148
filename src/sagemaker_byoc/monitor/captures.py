"""Captured traffic, as blocks of columns: a stream of lines in, some thousand rows at a time out.

The usual record, one CSV row in and one out, goes past the objects of `contract.capture`, which
would take longer than all the statistics; everything else goes through them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from sagemaker_byoc.contract.capture import CaptureError, Encoding, Payload, Record
from sagemaker_byoc.monitor import streams
from sagemaker_byoc.monitor.hooks import Preprocess
from sagemaker_byoc.monitor.layout import Block, Layout, joined
from sagemaker_byoc.monitor.payloads import Row, UnreadableError, paired, rows
from sagemaker_byoc.monitor.streams import READ_BYTES, Opener, Unread, Window, lines

ROWS = 8192
"""Of a block."""
_PARSED_AT_ONCE = 32
"""Lines. Of more, the garbage collector looks at the objects again and again (measured)."""
_BLOCK_BYTES = 8 << 20
_SCAN = json.JSONDecoder().raw_decode


class CaptureReader:
    """Counts what it can't use in `unread`, and rows that don't fit in `layout`."""

    def __init__(
        self,
        layout: Layout,
        *,
        window: Window | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        self.layout = layout
        self.unread = Unread()
        self._window = window
        self._preprocess = preprocess
        self._inputs: list[str | None] = []
        self._outputs: list[str | None] = []
        """Bodies that are CSV, record by record."""
        self._origins: list[tuple[str, int]] = []
        self._named: list[dict[str, str]] = []
        self._waiting_bytes = 0

    def blocks(self, names: Iterable[str], opener: Opener) -> Iterator[Block]:
        for name in names:
            if self._window is not None and not self._window.has_file(name):
                continue
            with opener(name) as stream:
                yield from self._file(name, stream)
        yield from self._flush()

    def _file(self, name: str, stream: BinaryIO) -> Iterator[Block]:
        some: list[tuple[int, bytes]] = []
        size = 0
        for number, line in enumerate(lines(stream), start=1):
            if line is None:
                self.unread.add(f"longer than {streams.LONGEST_LINE >> 20} MiB", f"{name}:{number}")
            elif line and not line.isspace():
                some.append((number, line))
                size += len(line)
                if len(some) >= _PARSED_AT_ONCE or size >= READ_BYTES:
                    self._take_some(name, some)
                    self._waiting_bytes += size
                    some, size = [], 0
                    if self._waiting_bytes >= _BLOCK_BYTES or len(self._inputs) >= ROWS:
                        yield from self._flush()
        self._take_some(name, some)
        self._waiting_bytes += size

    def _take_some(self, name: str, some: list[tuple[int, bytes]]) -> None:
        """Parsed as one JSON array, which takes half the time, unless a line is not as it should be
        or more is asked than to read it."""
        self.unread.lines += len(some)
        documents = None
        if self._window is None and self._preprocess is None:
            documents = _parsed([line for _, line in some])
        if documents is None:
            for number, line in some:
                self._attempt(line, (name, number))
            return
        for (number, line), document in zip(some, documents, strict=True):
            if not self._take_plain(document, (name, number)):
                self._attempt(line, (name, number))

    def _attempt(self, line: bytes, origin: tuple[str, int]) -> None:
        try:
            self._line(line, origin)
        except (CaptureError, UnreadableError, ValueError, RecursionError) as error:
            self.unread.add(_reason(error), f"{origin[0]}:{origin[1]}")

    def _line(self, line: bytes, origin: tuple[str, int]) -> None:
        text = line.decode()
        document, end = _SCAN(text)
        if end != len(text) and not text[end:].isspace():
            raise UnreadableError("text after the record")
        if self._window is not None and not self._window.has(_time(document)):
            return
        if self._preprocess is not None or not self._take_plain(document, origin):
            self._take(text)

    def _take_plain(self, document: Any, origin: tuple[str, int]) -> bool:
        """Whether each direction that there is is CSV, to be looked at with thousands of others."""
        try:
            data = document["captureData"]
            request, answer = data.get("endpointInput"), data.get("endpointOutput")
            text = said = None
            if request is not None:
                text = request["data"]
                if request["encoding"] != "CSV" or not isinstance(text, str):
                    return False
            if answer is not None:
                said = answer["data"]
                if answer["encoding"] != "CSV" or not isinstance(said, str):
                    return False
        except (KeyError, TypeError, AttributeError):
            return False
        if text is None and said is None:
            return False
        self._inputs.append(text)
        self._outputs.append(said)
        self._origins.append(origin)
        return True

    def _take(self, text: str) -> None:
        record = Record.from_line(text)
        if self._preprocess is not None:
            for row in self._preprocess(record):
                self._place(row, [])
        else:
            self._take_rows(rows(record.input), rows(record.output))

    def _take_rows(self, inputs: list[Row], outputs: list[Row]) -> None:
        for row, answer in [*paired(inputs, outputs)]:
            self._place(row, answer)

    def _place(self, row: Row, answer: Row) -> None:
        placed = self.layout.place(row, answer)
        if placed is not None:
            self._named.append(placed)

    def _flush(self) -> Iterator[Block]:
        groups: dict[tuple[bool, bool], list[int]] = {}
        if None in self._inputs or None in self._outputs:
            for place, (text, said) in enumerate(zip(self._inputs, self._outputs, strict=True)):
                groups.setdefault((text is not None, said is not None), []).append(place)
        elif self._inputs:
            groups[True, True] = [*range(len(self._inputs))]
        for (has_inputs, has_outputs), places in groups.items():
            yield from self._csv_blocks(
                _texts(self._inputs, places) if has_inputs else None,
                _texts(self._outputs, places) if has_outputs else None,
                places,
            )
        if self._named:
            names = tuple(dict.fromkeys(name for row in self._named for name in row))
            yield Block(names, [[row.get(name, "") for row in self._named] for name in names])
        self._inputs.clear()
        self._outputs.clear()
        self._origins.clear()
        self._named.clear()
        self._waiting_bytes = 0

    def _csv_blocks(
        self, inputs: list[str] | None, outputs: list[str] | None, origins: list[int]
    ) -> Iterator[Block]:
        """Rows of one shape at once; bodies with quotes or several rows go one by one."""
        sides = [texts for texts in (inputs, outputs) if texts is not None]
        places = [*range(len(origins))]
        if any(_is_special("".join(texts)) for texts in sides):
            special = {n for texts in sides for n, text in enumerate(texts) if _is_special(text)}
            for n in sorted(special):
                self._take_one(_at(inputs, n), _at(outputs, n), self._origins[origins[n]])
            places = [n for n in places if n not in special]
        for (wide, high), found in _shapes(inputs, outputs, places).items():
            fit = self.layout.order(wide, high)
            if fit is None:
                self.layout.misfit(wide, high, len(found))
                continue
            before, after = _columns(inputs, found, wide), _columns(outputs, found, high)
            yield Block(fit[0], joined(before, after, fit[1]))

    def _take_one(self, text: str | None, said: str | None, origin: tuple[str, int]) -> None:
        try:
            self._take_rows(_csv_rows(text), _csv_rows(said))
        except UnreadableError as error:
            self.unread.add(str(error), f"{origin[0]}:{origin[1]}")


def _parsed(some: list[bytes]) -> list[Any] | None:
    """A line of two values beside a value of two lines would pass; neither is a record."""
    try:
        found: list[Any] = json.loads(f"[{b','.join(some).decode()}]")
    except (ValueError, RecursionError):
        return None
    return found if len(found) == len(some) else None


def _reason(error: Exception) -> str:
    if isinstance(error, CaptureError):
        return f"{error.where} {error.what}"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error) if isinstance(error, UnreadableError) else "no JSON, or cut off"


def _texts(pending: list[str | None], places: list[int]) -> list[str]:
    """Without the line end that most bodies have."""
    return [(pending[place] or "").rstrip("\r\n") for place in places]


def _is_special(text: str) -> bool:
    return '"' in text or "\n" in text or "\r" in text


def _csv_rows(text: str | None) -> list[Row]:
    return [] if text is None else rows(Payload("", text, Encoding.CSV))


def _shapes(
    inputs: list[str] | None, outputs: list[str] | None, places: list[int]
) -> dict[tuple[int, int], list[int]]:
    """Where the rows of each shape are: cells in, cells out."""
    wide = _widths(inputs, places)
    high = _widths(outputs, places)
    if len(set(wide)) == len(set(high)) == 1:
        return {(wide[0], high[0]): places}
    found: dict[tuple[int, int], list[int]] = {}
    for place, shape in zip(places, zip(wide, high, strict=True), strict=True):
        found.setdefault(shape, []).append(place)
    return found


def _widths(texts: list[str] | None, places: list[int]) -> list[int]:
    if texts is None:
        return [0] * len(places)
    some = texts if len(places) == len(texts) else [texts[place] for place in places]
    return [text.count(",") + 1 for text in some]


def _at(texts: list[str] | None, place: int) -> str | None:
    return None if texts is None else texts[place]


def _columns(texts: list[str] | None, places: list[int], width: int) -> list[list[str]]:
    """Cells by column, without the blanks around them."""
    if texts is None:
        return []
    whole = len(places) == len(texts)
    text = ",".join(texts if whole else [texts[place] for place in places])
    cells = text.split(",")
    if " " in text or "\t" in text:
        cells = [cell.strip() for cell in cells]
    return [cells[place::width] for place in range(width)]


def _time(document: Any) -> object:
    try:
        return document["eventMetadata"]["inferenceTime"]
    except (KeyError, TypeError):
        return None
