"""Processing of records before and after the model: filters, the join, inference ids.

Source: developer guide, batch-transform-data-processing, model-monitor-data-capture-batch. A row of
CSV is an array of columns, which keep their quotes; it can't contain a newline.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, repeat
from typing import Any

from sagemaker_byoc.region.services.sagemaker.transform_jobs.json_paths import (
    JsonPath,
    JsonPathError,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.splitting import (
    TOGETHER,
    RecordError,
    windows,
)

OUTPUT, INPUT = "SageMakerOutput", "SageMakerInput"
INFERENCE_ID, INFERENCE_TIME = "SageMakerInferenceId", "SageMakerInferenceTime"
_COLUMN = re.compile(rb',("(?:[^"]|"")*"(?=,|$)|[^,]*)')


class AnswerError(Exception):
    """An answer of the model that can't be joined, filtered or numbered."""


class Media(StrEnum):
    """The media types that a job can process."""

    CSV = "text/csv"
    JSON = "application/json"
    JSON_LINES = "application/jsonlines"

    @classmethod
    def of(cls, text: str | None) -> Media | None:
        """Return the member for a Content-Type with or without parameters; None for others."""
        name = (text or "").partition(";")[0].strip().lower()
        return next((each for each in cls if each.value == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """`content` and `accept` are the types of input and output, if they are processed."""

    input_filter: JsonPath
    output_filter: JsonPath
    joins: bool
    content: Media | None
    accept: Media | None
    is_split: bool
    """Whether a record is a line, and not a whole object."""
    ends_lines: bool
    """Whether each record of the output ends with a newline."""
    inference_time: str | None = None
    """The time of the job, if each record gets an inference id."""

    @property
    def filters_input(self) -> bool:
        return not self.input_filter.is_root

    @property
    def changes_output(self) -> bool:
        is_filtered = not self.output_filter.is_root
        return self.joins or is_filtered or self.inference_time is not None

    def prepare(self, record: bytes) -> bytes:
        """Return the part of a record that the model gets. Raise RecordError."""
        if not self.filters_input:
            return record
        try:
            if self.content is Media.CSV:
                return _selected(record, self.input_filter)
            if self.content is Media.JSON_LINES and not self.is_split:
                values = map(_parsed, record.splitlines())
                return b"".join(_dumped(self.input_filter.select(each)) + b"\n" for each in values)
            return _dumped(self.input_filter.select(_parsed(record)))
        except ValueError as error:
            raise RecordError(f"InputFilter {self.input_filter.text}: {error}") from error

    def finish(self, records: Collection[bytes], answer: bytes) -> bytes:
        """Return the output for a batch of records. Raise AnswerError."""
        if not self.changes_output:
            return answer
        if not self.is_split and self.accept is not Media.JSON and records:
            (whole,) = records
            records = [line for line in whole.splitlines() if line.strip()]
        count = len(records)
        if self.joins and (found := sum(1 for _ in self._outputs(answer, count))) != count:
            raise AnswerError(
                f"The model's answer has {found} record(s) for {count} record(s) of the input, so "
                "they can't be joined"
            )
        finish = self._row if self.accept is Media.CSV else self._document
        inputs = records if self.joins else repeat(b"")
        pairs = zip(inputs, self._outputs(answer, count), strict=False)
        end = b"\n" if self.ends_lines else b""
        parts = []
        try:
            while rows := [finish(*pair) for pair in islice(pairs, TOGETHER)]:
                parts.append((end or b"\n").join(rows))
        except JsonPathError as error:
            raise AnswerError(f"OutputFilter {self.output_filter.text}: {error}") from error
        return (end or b"\n").join(parts) + end if parts else b""

    def _outputs(self, answer: bytes, count: int) -> Iterator[bytes]:
        if self.accept is Media.JSON and (count == 1 or not self.is_split):
            yield answer.strip()
            return
        for window in windows(answer):
            for line in window.split(b"\n"):
                if line.strip():
                    yield line.rstrip(b"\r")

    def _row(self, record: bytes, output: bytes) -> bytes:
        try:
            if self.output_filter.is_root:
                parts = [record, output] if self.joins else [output]
            else:
                parts = self._outer(record, output) or self._filtered(record, output)
        except RecordError as error:
            raise AnswerError(
                f"Failed to parse output from the algorithm as CSV: {error}"
            ) from error
        if self.inference_time is not None:
            parts += [str(uuid.uuid4()).encode(), self.inference_time.encode()]
        return b",".join(parts)

    def _filtered(self, record: bytes, output: bytes) -> list[bytes]:
        given = _columns(record) if self.joins else []
        return self.output_filter.columns(given + _columns(output))

    def _outer(self, record: bytes, output: bytes) -> list[bytes] | None:
        """Return what `_filtered` returns, without a split of the columns in between.

        Return None if the filter selects more than the record's first and the answer's last
        columns, or if a row has quotes.
        """
        numbers = self.output_filter.numbers
        if not (numbers and self.joins) or b'"' in record or b'"' in output:
            return None
        head, tail = max(numbers) + 1, -min(numbers)
        first = record.split(b",", head) if head > 0 else []
        last = output.rsplit(b",", tail) if tail > 0 else []
        if len(first) < head or len(last) < tail:
            return None
        return [first[number] if number >= 0 else last[number] for number in numbers]

    def _document(self, record: bytes, output: bytes) -> bytes:
        try:
            value = _parsed(output)
        except ValueError as error:
            raise AnswerError(
                f"Failed to parse output from the algorithm as JSON: {error}"
            ) from error
        if self.joins:
            try:
                given = _parsed(record)
            except ValueError as error:
                raise AnswerError(f"A record of the input can't be joined: {error}") from error
            is_object = isinstance(given, dict)
            value = {**given, OUTPUT: value} if is_object else {INPUT: given, OUTPUT: value}
        value = self.output_filter.select(value)
        if self.inference_time is not None:
            value = value if isinstance(value, dict) else {OUTPUT: value}
            value |= {INFERENCE_ID: str(uuid.uuid4()), INFERENCE_TIME: self.inference_time}
        return _dumped(value)


def _selected(row: bytes, path: JsonPath) -> bytes:
    """Return the columns of a row. Raise RecordError or JsonPathError."""
    if path.start is not None and b'"' not in row:
        parts = row.split(b",", path.start)
        if len(parts) > path.start:
            return parts[-1]
    return b",".join(path.columns(_columns(row)))


def _columns(row: bytes) -> list[bytes]:
    if b'"' not in row:
        return row.split(b",")
    if row.count(b'"') % 2:
        raise RecordError("A row of CSV has an open quote: rows can't contain newlines")
    return _COLUMN.findall(b"," + row)


def _parsed(text: bytes) -> Any:
    """Return the value. Raise ValueError if the text is not UTF-8 or not JSON."""
    try:
        return json.loads(text.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 ({error.reason} at byte {error.start})") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


_dumps: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _dumped(value: Any) -> bytes:
    # A lone surrogate, which JSON can escape, stays one.
    return _dumps(value).encode("utf-8", "surrogatepass")
