"""The columns of cells that come without a name.

The SDK's baseline datasets have their outputs in front (`output_columns_position` START) or at the
end; captured CSV has inputs and outputs apart, without any header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar

from sagemaker_byoc.monitor.inputs.documents import Row

Groups: TypeAlias = tuple[tuple[str, ...], ...]


class Outputs(StrEnum):
    """Where a dataset's outputs are among its columns."""

    START = "START"
    END = "END"
    NONE = "NONE"
    AUTO = "AUTO"
    """None if inputs alone fill the columns, else at the start."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some thousand rows: cells by column."""

    names: tuple[str, ...]
    columns: Sequence[list[str]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]]) -> Block:
        """Return rows by name as a block; a cell that a row lacks is empty."""
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        return cls(names, [[row.get(name, "") for row in rows] for name in names])

    @property
    def rows(self) -> int:
        return len(self.columns[0]) if self.columns else 0


@dataclass(slots=True)
class Layout:
    """`names` are the baseline's; None while one is being made."""

    names: tuple[str, ...] | None = None
    outputs: Outputs = Outputs.AUTO
    misfits: Counter[int] = field(default_factory=Counter)
    """Rows that have another number of columns than the baseline, by that number."""
    by_position: Counter[str] = field(default_factory=Counter)
    """Rows read by the numbers in their names, by the first of these names."""
    unwrapped: Counter[str] = field(default_factory=Counter)
    """Rows that were found below a key that the baseline lacks, by that key."""
    known: set[str] = field(default_factory=set)
    _groups: dict[tuple[str, ...], Groups | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = set(self.names or ())

    def order(self, inputs: int, outputs: int) -> tuple[tuple[str, ...], Outputs] | None:
        """Return names, and where the outputs go; None for a row that does not fit."""
        place = self._place(inputs, outputs)
        width = inputs if place is Outputs.NONE else inputs + outputs
        if self.names is None:
            return tuple(f"_c{number}" for number in range(width)), place
        return (self.names, place) if width == len(self.names) else None

    def _place(self, inputs: int, outputs: int) -> Outputs:
        if self.outputs is not Outputs.AUTO:
            return self.outputs
        if self.names is not None and inputs == len(self.names):
            return Outputs.NONE
        has_room = self.names is None or inputs + outputs == len(self.names)
        return Outputs.START if has_room else Outputs.NONE

    def misfit(self, inputs: int, outputs: int, rows: int = 1) -> None:
        is_alone = self._place(inputs, outputs) is Outputs.NONE
        self.misfits[inputs if is_alone else inputs + outputs] += rows

    def ignores_outputs(self, inputs: Row) -> bool:
        """Whether no column is left for what the model said to these inputs."""
        if self.outputs is Outputs.NONE or self.names is None:
            return self.outputs is Outputs.NONE
        if self.outputs is not Outputs.AUTO:
            return False
        inputs, _ = self._positional(self._unwrapped(inputs)[0])
        if isinstance(inputs, dict):
            return self.known <= inputs.keys()
        return len(inputs) == len(self.names)

    def headed(self, rows: list[Row]) -> list[Row]:
        """Return rows by name if the first of several is the baseline's names, as pandas writes
        them: with or without its index, which has no name."""
        first = rows[0] if len(rows) > 1 else None
        if not isinstance(first, list) or not self.known or first in ([], [""]):
            return rows
        if not self.known.issuperset(first[1:] if first[0] == "" else first):
            return rows
        return [
            {name: cell for name, cell in zip(first, row, strict=True) if name}
            if isinstance(row, list) and len(row) == len(first)
            else row
            for row in rows[1:]
        ]

    def place(self, inputs: Row, outputs: Row) -> dict[str, str] | None:
        """Return one row as cells by name; None if it does not fit, which is counted."""
        if self.names is not None:
            inputs, stem = self._unwrapped(inputs)
            if stem:
                self.unwrapped[stem] += 1
            inputs, outputs = self._unnumbered(inputs, outputs)
            outputs = self._unnamed(inputs, outputs)
        if isinstance(inputs, list) and isinstance(outputs, list):
            fit = self.order(len(inputs), len(outputs))
            if fit is None:
                self.misfit(len(inputs), len(outputs))
                return None
            return dict(zip(fit[0], joined(inputs, outputs, fit[1]), strict=True))
        return self._mixed(inputs, outputs)

    def _unnumbered(self, inputs: Row, outputs: Row) -> tuple[Row, Row]:
        """Return rows by position if their names are numbered (`feature0000000012`), and not the
        baseline's. Of two series in one row, as the samples' preprocessors return them, the second
        is the outputs."""
        listed, more = self._positional(inputs)
        said, _ = self._positional(outputs)
        said = more if more and not outputs else said
        if isinstance(listed, list) and isinstance(said, list) and listed is not inputs:
            if self.order(len(listed), len(said)) is None:
                return inputs, outputs
            self.by_position[next(iter(inputs))] += 1
        return listed, said

    def _unnamed(self, inputs: Row, outputs: Row) -> Row:
        """Return outputs by position if their columns are known, and their own names (`score`,
        `output-0`) are not the baseline's."""
        is_known = self.outputs in (Outputs.START, Outputs.END) and self.names is not None
        if not is_known or isinstance(outputs, list) or not self.known.isdisjoint(outputs):
            return outputs
        if not outputs or len(inputs) + len(outputs) != len(self.names or ()):
            return outputs
        self.by_position[next(iter(outputs))] += 1
        return [*outputs.values()]

    def _positional(self, row: Row) -> tuple[Row, list[str]]:
        if isinstance(row, list) or row.keys() <= self.known:
            return row, []
        row = {self._unlisted(name, row): text for name, text in row.items()}
        new = tuple(name for name in row if name not in self.known)
        if new not in self._groups and len(self._groups) < _MOST_GROUPS:
            is_alone = len(new) == len(row)
            self._groups[new] = numbered(new) or (_numbered_of_some(new) if is_alone else None)
        groups = self._groups.get(new)
        if groups is None or len(groups) > 2:
            return row, []
        first, *rest = ([row[name] for name in names] for names in groups)
        if len(new) == len(row):
            return first, rest[0] if rest else []
        left = [name for name in self.names or () if name not in row]
        if rest or len(left) != len(new):
            return row, []
        self.by_position[new[0]] += 1
        return {name: row[name] for name in row if name in self.known} | dict(
            zip(left, first, strict=True)
        ), []

    def _unwrapped(self, row: Row) -> tuple[Row, str]:
        """Return a row, and the key that it was found below.

        `{"inputs": {"age": 30}, "parameters": …}` has the column `inputs.age`; if the baseline has
        `age`, and no name of this row, it is that column, and what stands beside is not data.
        """
        if isinstance(row, list) or not self.known.isdisjoint(row):
            return row, ""
        inner: dict[str, dict[str, str]] = {}
        for name, text in row.items():
            stem, dot, rest = name.partition(".")
            if dot:
                inner.setdefault(stem, {})[rest] = text
        stem = max(inner, key=lambda each: len(self.known & inner[each].keys()), default="")
        if not stem or self.known.isdisjoint(inner[stem]):
            return row, ""
        return inner[stem], stem

    def _unlisted(self, name: str, row: Mapping[str, str]) -> str:
        """Return `age` for `{"age": [30]}`, as TensorFlow takes a feature of one value."""
        stem = name.removesuffix("_0")
        is_alone = f"{stem}_1" not in row and stem not in row
        return stem if name not in self.known and stem in self.known and is_alone else name

    def _mixed(self, inputs: Row, outputs: Row) -> dict[str, str] | None:
        """Return a row whose cells without names take the names that are left, in order."""
        found: dict[str, str] = {**inputs} if isinstance(inputs, dict) else {}
        # else an answer that the baseline does not know would be an extra column, or a missing one
        may_be_new = self.names is None or self.outputs in (Outputs.START, Outputs.END)
        if isinstance(outputs, dict) and self.outputs is not Outputs.NONE:
            found |= {
                name: value for name, value in outputs.items() if may_be_new or name in self.known
            }
        if isinstance(inputs, list) and not self._take(found, inputs, "_c"):
            self.misfits[len(found) + len(inputs)] += 1
            return None
        if isinstance(outputs, list) and may_be_new and self.outputs is not Outputs.NONE:
            self._take(found, outputs, "output")
        return found

    def _take(self, found: dict[str, str], row: list[str], stem: str) -> bool:
        if self.names is None:
            left = [f"{stem}{number}" for number in range(len(row))]
        else:
            left = [name for name in self.names if name not in found]
        if len(left) != len(row):
            return not row
        found.update(zip(left, row, strict=True))
        return True


_MOST_GROUPS = 1000
_NUMBERED = re.compile(r"(.*?)(\d+)", re.ASCII | re.DOTALL)


def numbered(names: Sequence[str]) -> Groups | None:
    """Return names that end in numbers from 0 or 1 up, without a gap, in the order of these
    numbers, one group for each word before them; None if some do not, or if there is one alone."""
    series: dict[str, dict[int, str]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None or len(match[2]) > 20:
            return None
        found = series.setdefault(match[1], {})
        if found.setdefault(int(match[2]), name) != name:
            return None
    if len(names) < 2 or not all(_is_a_series(each) for each in series.values()):
        return None
    return tuple(tuple(each[number] for number in sorted(each)) for each in series.values())


def _numbered_of_some(names: Sequence[str]) -> Groups | None:
    """Return the largest series alone: a request's id or a model's version may stand beside it."""
    stems = Counter(match[1] for name in names if (match := _NUMBERED.fullmatch(name)))
    stem = max(stems, key=stems.__getitem__, default="")
    return numbered([name for name in names if _stem(name) == stem]) if stem else None


def _stem(name: str) -> str:
    match = _NUMBERED.fullmatch(name)
    return match[1] if match else ""


def _is_a_series(found: Mapping[int, str]) -> bool:
    return min(found) in (0, 1) and max(found) - min(found) == len(found) - 1


Cells = TypeVar("Cells")


def joined(inputs: list[Cells], outputs: list[Cells], place: Outputs) -> list[Cells]:
    """Join the cells of a row, or whole columns."""
    if place is Outputs.NONE:
        return inputs
    return inputs + outputs if place is Outputs.END else outputs + inputs
