"""A JSON document as rows of a table.

A row is a list of cells (by position) or a dictionary of cells (by name). Every cell is text, as a
CSV file would have it; an empty cell is missing.

Known shapes: lists of lists, lists of objects, `{"instances": […], …}` and its like, columns as
lists, every orient of pandas' `to_json()`, MLflow's `dataframe_split`, and the tensors of the V2
protocol (KServe, Triton). Sources: TensorFlow Serving's REST API, pandas' `to_json`, the Open
Inference Protocol's `predict_v2`, MLflow's scoring server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

Row: TypeAlias = "list[str] | dict[str, str]"
_DEEPEST = 8
"""Levels of nesting that become columns of their own; what is deeper stays JSON text."""
_INPUTS = (
    "instances", "inputs", "dataframe_records", "dataframe_split", "input_data", "Inputs",
    "records", "rows",
)  # fmt: skip
_OUTPUTS = ("predictions", "outputs")
"""Keys whose value is the table: what stands beside it (a model's version, a signature's name) is
not data. Outputs may come as columns, one of which is called `predictions`."""
_VAGUE = ("data", "results")
"""Keys of a table if it holds lists or objects; else they may be columns like any other."""
_SPLITS = (
    ("columns", "data", ("index", "index_names", "column_names")),
    ("names", "ndarray", ()),
    ("fields", "values", ("id",)),
    ("feature_names", "values", ()),
)
_FOLDED = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false"}


class UnreadableError(Exception):
    """Why data is not a table. `what` is short, since it is counted by this text; `detail` differs
    from record to record."""

    def __init__(self, what: str, detail: str = "") -> None:
        self.what = what
        self.detail = detail
        super().__init__(f"{what} ({detail})" if detail else what)


def document_rows(document: Any) -> Iterator[Row]:
    """Yield the rows of a parsed document. Raise UnreadableError."""
    if isinstance(document, dict):
        yield from _object_rows(document)
    elif not isinstance(document, list):
        yield [cell(document)]
    elif all(isinstance(value, list | dict | None) for value in document):
        yield from _each([value for value in document if value is not None])
    else:
        yield [*_cells(document)]


def _object_rows(document: dict[str, Any]) -> Iterator[Row]:
    split = _split(document)
    if split is not None:
        yield from _split_rows(*split)
    elif _is_schema_table(document):
        yield from _schema_rows(document["schema"], document["data"])
    elif (key := _table_key(document)) is not None:
        yield from _table_rows(document[key])
    elif columns := _indexed_columns(document):
        yield from _column_rows(columns)
    elif rows := _indexed_rows(document):
        yield from _each(rows)
    elif len(document) > 1 and _are_columns(document.values()):
        yield from _column_rows(document)
    elif document:
        yield named(document)


def _table_key(document: Mapping[str, Any]) -> str | None:
    """Return the key whose value is the table, beside which nothing is data; None without one."""
    found = _known_key(document)
    if found is None and len(document) == 1:
        ((key, value),) = document.items()
        if isinstance(value, list) and (key != "features" or _is_structured(value)):
            return key  # `{"features": [1, 2]}` is one row, and `{"scores": [1, 2]}` is two
    return found


def _known_key(document: Mapping[str, Any]) -> str | None:
    for key in (*_INPUTS, *_OUTPUTS):
        value = document.get(key)
        if _is_table(value) or (isinstance(value, list) and not _is_column(key, value, document)):
            return key
    for key in _VAGUE:
        value = document.get(key)
        if _is_table(value) or (isinstance(value, list) and _is_structured(value)):
            return key
    return None


def _is_table(value: Any) -> bool:
    """Whether an object is columns, or holds a table in turn: `{"inputs": {"instances": […]}}`."""
    return isinstance(value, dict) and (
        _split(value) is not None or _are_columns(value.values()) or _known_key(value) is not None
    )


def _is_column(key: str, value: list[Any], document: Mapping[str, Any]) -> bool:
    """Whether a list is one column of several, and not a table with other things beside it."""
    if _is_structured(value) and key in _INPUTS:
        return False
    return len(document) > 1 and _are_columns(document.values())


def _is_structured(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, list | dict) for value in values)


def _are_columns(values: Collection[Any]) -> bool:
    """Whether all are lists, of one length."""
    sizes = {len(value) if isinstance(value, list) else -1 for value in values}
    return len(sizes) == 1 and -1 not in sizes


def _table_rows(table: Any) -> Iterator[Row]:
    if isinstance(table, dict):
        is_nested = _split(table) is not None or _known_key(table) is not None
        yield from _object_rows(table) if is_nested else _column_rows(table)
    elif table and all(_is_tensor(each) for each in table):
        yield from _tensor_rows(table)
    elif table and all(isinstance(each, dict) and _split(each) for each in table):
        for each in table:
            yield from _object_rows(each)
    else:
        yield from _each(table)


def _each(values: list[Any]) -> Iterator[Row]:
    for value in values:
        if isinstance(value, dict):
            yield named(value)
        else:
            yield [*_cells(value)] if isinstance(value, list) else [cell(value)]


def _cells(values: list[Any]) -> Iterator[str]:
    """Yield the cells of a row, and of lists within it (`[[1, 2], [3, 4]]` as one instance)."""
    for value in values:
        if isinstance(value, list) and value:
            yield from _cells(value)
        else:
            yield cell(value)


def _column_rows(columns: Mapping[str, list[Any]]) -> Iterator[Row]:
    for values in zip(*columns.values(), strict=True):
        yield named(dict(zip(columns, values, strict=True)))


# ── pandas ──


def _split(document: Mapping[str, Any]) -> tuple[list[Any], list[Any]] | None:
    """Return names and rows of `to_json(orient="split")` and `to_dict("tight")`, of Seldon's
    `{"names": […], "ndarray": […]}`, of watsonx's `{"fields": […], "values": […]}`; None for other
    objects."""
    for names, data, more in _SPLITS:
        found: tuple[Any, Any] = document.get(names), document.get(data)
        if isinstance(found[0], list) and isinstance(found[1], list):
            return found if document.keys() <= {names, data, *more} else None
    return None


def _split_rows(columns: list[Any], data: list[Any]) -> Iterator[Row]:
    names = [cell(name) for name in columns]
    is_flat = len(data) == len(names) > 1 and not any(isinstance(each, list) for each in data)
    for values in [data] if is_flat else data:
        if not isinstance(values, list) or len(values) != len(names):
            size = len(values) if isinstance(values, list) else 1
            raise UnreadableError(
                "a row has another number of cells than `columns`", f"{size}, not {len(names)}"
            )
        yield named(dict(zip(names, values, strict=True)))


def _is_schema_table(document: Mapping[str, Any]) -> bool:
    """Whether this is what `to_json(orient="table")` writes."""
    schema = document.get("schema")
    return (
        document.keys() == {"schema", "data"}
        and isinstance(schema, dict)
        and isinstance(schema.get("fields"), list)
        and isinstance(document["data"], list)
    )


def _schema_rows(schema: Mapping[str, Any], data: list[Any]) -> Iterator[Row]:
    """Yield rows without the index, which is named as the primary key."""
    key = schema.get("primaryKey")
    index = {str(name) for name in key} if isinstance(key, list) else set()
    for row in data:
        if not isinstance(row, dict):
            raise UnreadableError("a row of `data` is not an object")
        yield named({name: value for name, value in row.items() if name not in index})


def _indexed_columns(document: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """Return the columns of `to_json()`: `{"a": {"0": 1, "1": 2}, …}`; None for other objects."""
    if not document or not all(isinstance(each, dict) and each for each in document.values()):
        return None
    first = next(iter(document.values())).keys()
    if not all(key.isdigit() for key in first):
        return None
    if any(each.keys() != first for each in document.values()):
        return None
    return {name: [*each.values()] for name, each in document.items()}


def _indexed_rows(document: Mapping[str, Any]) -> list[Any] | None:
    """Return the rows of `to_json(orient="index")`, `{"0": {"a": 1}, …}`; None of others."""
    is_indexed = all(
        key.isdigit() and isinstance(each, dict) and each for key, each in document.items()
    )
    return [*document.values()] if document and is_indexed else None


# ── tensors of the V2 protocol ──


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and {"name", "shape", "datatype"} <= value.keys()


def _tensor_rows(tensors: list[dict[str, Any]]) -> Iterator[Row]:
    """Yield rows, which are the first dimension. One tensor of several columns gives columns by
    position, because its name is not that of any of them."""
    columns: dict[str, list[str]] = {}
    for tensor in tensors:
        columns |= _tensor_columns(tensor)
    sizes = {len(column) for column in columns.values()}
    if len(sizes) > 1:
        raise UnreadableError("tensors of different numbers of rows", f"{sorted(sizes)}"[:80])
    for values in zip(*columns.values(), strict=True):
        is_bare = len(tensors) == 1 and len(columns) > 1
        yield [*values] if is_bare else dict(zip(columns, values, strict=True))


def _tensor_columns(tensor: Mapping[str, Any]) -> dict[str, list[str]]:
    name, shape, data = str(tensor["name"]), tensor["shape"], tensor.get("data")
    if not isinstance(data, list):
        raise UnreadableError("a tensor has no `data` in JSON", f"tensor {name[:40]!r}")
    if not isinstance(shape, list) or not all(_is_size(each) for each in shape):
        raise UnreadableError("a tensor's shape is not a list of sizes", f"tensor {name[:40]!r}")
    cells = [*_cells(data)]
    rows = shape[0] if shape else 1
    if math.prod(shape) != len(cells) or (not rows and cells):
        detail = f"tensor {name[:40]!r} has {len(cells)} values, shape {shape}"[:120]
        raise UnreadableError("a tensor's shape and number of values differ", detail)
    width = len(cells) // rows if rows else 0
    if width == 1:
        return {name: cells}
    return {f"{name}_{place}": cells[place::width] for place in range(width)}


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# ── cells ──


def named(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of one object: `{"a": {"b": 1}, "c": [2, 3]}` has a.b, c_0 and c_1."""
    found: dict[str, str] = {}
    if document:
        _flatten("", document, found, _DEEPEST)
    return found


def _flatten(name: str, value: Any, found: dict[str, str], depth: int) -> None:
    if depth and isinstance(value, Mapping) and value:
        for key, inner in value.items():
            inner_name = clean(str(key))
            _flatten(f"{name}.{inner_name}" if name else inner_name, inner, found, depth - 1)
    elif depth and isinstance(value, list) and value:
        for place, inner in enumerate(value):
            _flatten(f"{name}_{place}", inner, found, depth - 1)
    else:
        found[name] = cell(value)


def cell(value: Any) -> str:
    """Return a JSON value as a CSV file would have it; null and NaN are missing."""
    if isinstance(value, str):
        text = clean(value).strip()
        return _FOLDED.get(text, text)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else float.__repr__(value)
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def clean(text: str) -> str:
    """Return `text` as any file may hold it: JSON may escape half of a surrogate pair."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def folded(cells: list[str]) -> list[str]:
    """Return `cells` with pandas' True and False as JSON and Deequ spell them."""
    return [_FOLDED.get(each, each) for each in cells]


def may_fold(text: str) -> bool:
    """Whether the joined text of many cells holds a word that `folded` would change."""
    return any(word in text for word in _FOLDED)
