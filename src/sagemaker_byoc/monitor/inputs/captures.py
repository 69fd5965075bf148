"""Captured traffic, as blocks of columns: a stream of lines in, some thousand rows at a time out.

The usual record, one CSV row in and one out, bypasses the objects of `contract.capture`, which
would take longer than all the statistics; everything else uses them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from sagemaker_byoc.contract.capture import CaptureError, Encoding, Payload, Record
from sagemaker_byoc.monitor.inputs import streams
from sagemaker_byoc.monitor.inputs.documents import Row, UnreadableError, clean, folded, may_fold
from sagemaker_byoc.monitor.inputs.layout import Block, Layout, joined
from sagemaker_byoc.monitor.inputs.payloads import paired, rows
from sagemaker_byoc.monitor.inputs.scripts import Preprocess
from sagemaker_byoc.monitor.inputs.streams import READ_BYTES, Opener, Unread, Window

ROWS = 8192
"""Rows of a block."""
_MATCHED_AT_ONCE = 512
_PARSED_AT_ONCE = 32
"""Lines. Of more, the garbage collector looks at the objects again and again (measured)."""
_BLOCK_BYTES = 8 << 20
_CELLS = r'"([^"\\\n]*)(?:\\r)?(?:\\n)?"'
_TYPE = r'(?:null|"[^"\\\n]*")'
_HABITUAL = re.compile(
    rf'^\{{"captureData":\{{"endpointInput":\{{"observedContentType":{_TYPE},"mode":"INPUT",'
    rf'"data":{_CELLS},"encoding":"CSV"\}},'
    rf'"endpointOutput":\{{"observedContentType":{_TYPE},"mode":"OUTPUT",'
    rf'"data":{_CELLS},"encoding":"CSV"\}}\}},'
    r'"eventMetadata":\{[^{}\\\n]*"inferenceTime":"([^"\\\n]*)"\},"eventVersion":"0"\}\r?$',
    re.MULTILINE,
)
"""A line as SageMaker and this project write it, CSV both ways and nothing escaped in it."""
_SCAN = json.JSONDecoder().raw_decode


Origin = tuple[str, int]
"""File and line."""


class CaptureReader:
    """Reader of captured records.

    It counts unusable lines in `unread`, and rows that don't fit in `layout`.
    """

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
        self._origins: list[Origin] = []
        self._named: list[dict[str, str]] = []
        self._waiting_bytes = 0

    def blocks(self, names: Iterable[str], opener: Opener) -> Iterator[Block]:
        for name in names:
            if self._window is not None and not self._window.has_file(name):
                continue
            with streams.text(opener, name, self.unread) as stream:
                yield from self._file(name, stream)
        yield from self._flush()

    def _file(self, name: str, stream: BinaryIO) -> Iterator[Block]:
        some: list[bytes] = []
        numbers: list[int] = []
        size = 0
        for number, line in streams.records(stream):
            if line is None:
                self.unread.lines += 1
                self.unread.add(f"longer than {streams.LONGEST_LINE >> 20} MiB", f"{name}:{number}")
            elif line and not line.isspace():
                some.append(line)
                numbers.append(number)
                size += len(line)
                if len(some) >= _MATCHED_AT_ONCE or size >= READ_BYTES:
                    self._take_some(some, [(name, number) for number in numbers])
                    self._waiting_bytes += size
                    some, numbers, size = [], [], 0
                    if self._waiting_bytes >= _BLOCK_BYTES or len(self._inputs) >= ROWS:
                        yield from self._flush()
        self._take_some(some, [(name, number) for number in numbers])
        self._waiting_bytes += size

    def _take_some(self, some: list[bytes], origins: list[Origin]) -> None:
        """Read lines all at once if each has the usual form, else by the dozen, else one by one."""
        self.unread.lines += len(some)
        if self._preprocess is None and self._match(some, origins):
            return
        for start in range(0, len(some), _PARSED_AT_ONCE):
            part = some[start : start + _PARSED_AT_ONCE]
            documents = None
            if self._window is None and self._preprocess is None:
                documents = _parsed(part)
            for place, line in enumerate(part):
                origin = origins[start + place]
                if documents is None or not self._take_plain(documents[place], origin):
                    self._attempt(line, origin)

    def _match(self, some: list[bytes], origins: list[Origin]) -> bool:
        """Read lines of the usual form, and return False if there are others.

        One regular expression over all lines is five times as fast as parsing their JSON.
        """
        try:
            found = _HABITUAL.findall(b"\n".join(some).decode())
        except UnicodeDecodeError:
            return False
        if not found or len(found) != len(some):
            return False
        inputs, outputs, times = zip(*found, strict=True)
        window = self._window
        if window is None:
            self._inputs += inputs
            self._outputs += outputs
            self._origins += origins
            return True
        for text, said, time, origin in zip(inputs, outputs, times, origins, strict=True):
            if window.has(time):
                self._inputs.append(text)
                self._outputs.append(said)
                self._origins.append(origin)
            else:
                self.unread.outside += 1
        return True

    def _attempt(self, line: bytes, origin: Origin) -> None:
        try:
            self._line(line, origin)
        except UnreadableError as error:
            self._unreadable(error, origin)
        except (CaptureError, ValueError, RecursionError) as error:
            self.unread.add(_reason(error), f"{origin[0]}:{origin[1]}")

    def _unreadable(self, error: UnreadableError, origin: Origin) -> None:
        self.unread.add(error.what, f"{origin[0]}:{origin[1]}", error.detail)

    def _line(self, line: bytes, origin: Origin) -> None:
        text = line.decode()
        document, end = _SCAN(text)
        if end != len(text) and not text[end:].isspace():
            raise UnreadableError("text after the record")
        if isinstance(document, list):  # an array of records
            for each in document:
                self._document(each, json.dumps(each), origin)
        else:
            self._document(document, text, origin)

    def _document(self, document: Any, text: str, origin: Origin) -> None:
        if self._window is not None and not self._window.has(_time(document)):
            self.unread.outside += 1
        elif self._preprocess is not None or not self._take_plain(document, origin):
            self._take(text)

    def _take_plain(self, document: Any, origin: Origin) -> bool:
        """Queue a record that is CSV both ways, to be read with others; False for the rest."""
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
            for row in self.layout.headed(self._preprocess(record, None)):
                self._place(row, [])
        else:
            self._take_rows(rows(record.input), lambda: rows(record.output))

    def _take_rows(self, inputs: list[Row], outputs: Callable[[], list[Row]]) -> None:
        """Place rows; read `outputs` only if columns are left for them: many are images."""
        inputs = self.layout.headed(inputs)
        is_enough = bool(inputs) and all(map(self.layout.ignores_outputs, inputs))
        for row, answer in [*paired(inputs, [] if is_enough else outputs())]:
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
                trimmed(self._inputs, places) if has_inputs else None,
                trimmed(self._outputs, places) if has_outputs else None,
                places,
            )
        if self._named:
            yield Block.of(self._named)
        self._inputs.clear()
        self._outputs.clear()
        self._origins.clear()
        self._named.clear()
        self._waiting_bytes = 0

    def _csv_blocks(
        self, inputs: list[str] | None, outputs: list[str] | None, origins: list[int]
    ) -> Iterator[Block]:
        """Yield rows of one shape at once; bodies with quotes or several rows go one by one."""
        sides = [texts for texts in (inputs, outputs) if texts is not None]
        places = [*range(len(origins))]
        if any(is_special("".join(texts)) for texts in sides):
            special = {n for texts in sides for n, text in enumerate(texts) if is_special(text)}
            for n in sorted(special):
                self._take_one(at(inputs, n), at(outputs, n), self._origins[origins[n]])
            places = [n for n in places if n not in special]
        for (wide, high), found in shapes(inputs, outputs, places).items():
            fit = self.layout.order(wide, high)
            if fit is None:
                for n in found:
                    text, said = at(inputs, n) or "", at(outputs, n)
                    self._take_misfit(text, said, (wide, high), origins[n])
                continue
            before, after = columns(inputs, found, wide), columns(outputs, found, high)
            yield Block(fit[0], joined(before, after, fit[1]))

    def _take_misfit(self, text: str, said: str | None, shape: tuple[int, int], where: int) -> None:
        """Count a body that does not fit, unless its cells have another separator, and fit then."""
        separator = next((each for each in ";\t|" if each in text), "")
        width = text.count(separator) + 1 if separator and shape[0] == 1 else 0
        if width and self.layout.order(width, shape[1]) is not None:
            self.unread.notice(f"bodies are separated by {separator!r}")
            self._take_one(text.replace(separator, ","), said, self._origins[where])
        else:
            self.layout.misfit(*shape)

    def _take_one(self, text: str | None, said: str | None, origin: Origin) -> None:
        try:
            self._take_rows(csv_rows(text), lambda: csv_rows(said))
        except UnreadableError as error:
            self._unreadable(error, origin)


def _parsed(some: list[bytes]) -> list[Any] | None:
    """Return the documents of some lines; None if a line is not one.

    A line of two values beside a value of two lines would pass; neither is a record.
    """
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
    return "not JSON, or cut off"


def _time(document: Any) -> object:
    try:
        return document["eventMetadata"]["inferenceTime"]
    except (KeyError, TypeError):
        return None


# ── bodies of one CSV row ──


def trimmed(pending: list[str | None], places: list[int]) -> list[str]:
    """Return bodies without the line end that most have."""
    found = [pending[place] or "" for place in places]
    return [text.rstrip("\r\n") for text in found] if is_special("".join(found)) else found


def is_special(text: str) -> bool:
    """Whether a body is not one plain row: quotes, several lines, JSON, a byte order mark."""
    return any(each in text for each in _SPECIAL)


_SPECIAL = ('"', "\n", "\r", "{", "[", "\ufeff")


def csv_rows(text: str | None) -> list[Row]:
    return [] if text is None else rows(Payload("", text, Encoding.CSV))


def shapes(
    inputs: list[str] | None, outputs: list[str] | None, places: list[int]
) -> dict[tuple[int, int], list[int]]:
    """Return the places of the rows of each shape: cells in, cells out."""
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


def at(texts: list[str] | None, place: int) -> str | None:
    return None if texts is None else texts[place]


def columns(texts: list[str] | None, places: list[int], width: int) -> list[list[str]]:
    """Return cells by column, without the blanks around them."""
    if texts is None:
        return []
    whole = len(places) == len(texts)
    text = clean(",".join(texts if whole else [texts[place] for place in places]))
    cells = text.split(",")
    if " " in text or "\t" in text:
        cells = [cell.strip() for cell in cells]
    if may_fold(text):
        cells = folded(cells)
    return [cells[place::width] for place in range(width)]
