"""Bodies of one CSV row each, thousands at a time, as cells by column."""

from __future__ import annotations

from sagemaker_byoc.contract.hosting.capture import Encoding, Payload
from sagemaker_byoc.monitor.inputs.documents import Row, clean, folded, may_fold
from sagemaker_byoc.monitor.inputs.payloads import rows


def trimmed(pending: list[str | None], places: list[int]) -> list[str]:
    """Without the line end that most bodies have."""
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


def at(texts: list[str] | None, place: int) -> str | None:
    return None if texts is None else texts[place]


def columns(texts: list[str] | None, places: list[int], width: int) -> list[list[str]]:
    """Cells by column, without the blanks around them."""
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
