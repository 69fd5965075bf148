"""One column of data: types, moments, quantiles, categories. Cells come as text.

A cell is Integral, Fractional or Boolean by the regexes of Deequ's StatefulDataType, else String;
an empty one is missing. Cells come thousands at a time, because one regex per cell would be most
of the time that monitoring takes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from zlib import crc32

import numpy as np

from sagemaker_byoc.monitor.data.distributions import Sketch, Values

MOST_CATEGORIES = 1000
"""Deequ's histograms have as many bins."""
LONGEST_CATEGORY = 256
"""Characters of a value that is kept as a category; of a longer one the rest is a checksum."""
_CHECKSUM = 9
MOSTLY = 0.5
"""Above this share of values that came once, the shares of single values say nothing."""
OTHERS = "(other values)"
_EXAMPLES = 5
_FEW_CODES = 20
"""Distinct values."""
_SMALLEST_HASHES = 1024
_NUMBER = re.compile(r"[-+]? ?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_PLAIN = b"0123456789.,-"
_ODD_POINTS = (b".,", b",.", b".e", b".E", b".-", b"-.", b".+", b"+.")
"""As in `1.`, `.5`, `1.e5`: numbers to most readers, and String to Deequ."""


class Kind(StrEnum):
    """`inferred_type` of AWS's files."""

    INTEGRAL = "Integral"
    FRACTIONAL = "Fractional"
    STRING = "String"
    UNKNOWN = "Unknown"

    @property
    def is_numeric(self) -> bool:
        return self in (Kind.INTEGRAL, Kind.FRACTIONAL)


@dataclass(slots=True)
class Moments:
    """Mean and squares merged as in Chan, Golub and LeVeque, so that no sum of squares cancels."""

    count: int = 0
    total: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def add(self, values: Values) -> None:
        n = len(values)
        with np.errstate(over="ignore", invalid="ignore"):  # of 1e308 and more; written as such
            mean = float(values.mean())
            squares = float(((values - mean) ** 2).sum())
            self.total += float(values.sum())
        apart = mean - self.mean
        whole = self.count + n
        self.squares += squares + apart * apart * self.count * n / whole
        self.mean += apart * n / whole
        self.count = whole
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))

    @property
    def deviation(self) -> float:
        """The standard deviation of the population, as Deequ has it."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


@dataclass(slots=True)
class Categories:
    """Counts of values while there are few of them; of many, an estimate of how many."""

    known: frozenset[str] = frozenset()
    """The baseline's: these are always counted, and what is too many besides is one category."""
    counts: Counter[str] = field(default_factory=Counter)
    hashes: dict[int, int] | None = None
    """The values with the smallest hashes, and their counts, once there are too many values."""
    _limit: int = 1 << 32
    """Above the hashes that are kept."""

    def add(self, cells: Sequence[str]) -> None:
        if self.hashes is not None:
            self._hash(Counter(cells))
            return
        for value, count in Counter(cells).items():
            self.counts[self._category(value)] += count
        if not self.known and len(self.counts) > MOST_CATEGORIES:
            self.hashes = {}
            self._hash(self.counts)
            self.counts = Counter()

    def _hash(self, counts: Mapping[str, int]) -> None:
        """Count by hash; once there are enough, few others are small enough to be kept.

        The limit only falls, so the count of each hash that is kept is exact.
        """
        kept = self.hashes or {}
        for value, count in counts.items():
            found = hash_of(value)
            if found < self._limit:
                kept[found] = kept.get(found, 0) + count
        if len(kept) >= _SMALLEST_HASHES:
            smallest = sorted(kept)[:_SMALLEST_HASHES]
            self._limit = smallest[-1] + 1
            kept = {each: kept[each] for each in smallest}
        self.hashes = kept

    def sample(self) -> dict[int, int]:
        """Return counts by hash: of all values, or of those with the smallest hashes."""
        if self.hashes is not None:
            return self.hashes
        return {hash_of(value): count for value, count in self.counts.items()}

    def _category(self, value: str) -> str:
        value = kept(value)
        has_room = len(self.counts) < MOST_CATEGORIES + len(self.known)
        if not self.known or has_room or value in self.counts or value in self.known:
            return value
        return OTHERS

    @property
    def are_counted(self) -> bool:
        return self.hashes is None

    @property
    def singles_share(self) -> float:
        """The share of the cells whose value came exactly once; of a sample if there are many."""
        counts = self.counts if self.hashes is None else self.hashes
        return singles_share(counts.values())

    @property
    def distinct(self) -> float:
        """The number of values: exact if counted, else within about 3 % (k minimum values)."""
        if self.hashes is None:
            return float(len(self.counts))
        if len(self.hashes) < _SMALLEST_HASHES:
            return float(len(self.hashes))
        return round((_SMALLEST_HASHES - 1) / (self._limit / 2**32))


@dataclass(slots=True)
class Column:
    """`kind` is the baseline's, if there is one: it says what has to be kept. In a column of whole
    numbers 6.0 is whole too: arrays, `float()` and many clients have one type for all numbers."""

    name: str
    kind: Kind | None = None
    has_numbers: bool = False
    """Whether the baseline's column of text holds numbers that are compared as numbers."""
    missing: int = 0
    integral: int = 0
    fractional: int = 0
    boolean: int = 0
    text: int = 0
    moments: Moments = field(default_factory=Moments)
    sketch: Sketch = field(default_factory=Sketch)
    categories: Categories = field(default_factory=Categories)
    lengths: Sketch = field(default_factory=Sketch)
    """Characters of each cell that is not a number."""
    examples: list[str] = field(default_factory=list)
    """Some cells that are not numbers."""

    @property
    def numbers(self) -> int:
        return self.integral + self.fractional

    @property
    def is_mostly_numbers(self) -> bool:
        """Whether a column of text holds measurements: one `nan` makes it text by Deequ's rule.

        Half of its values at least are numbers, and not a few whole ones that come again and again
        (the codes 1, 2 and X), which are categories.
        """
        if self.inferred is not Kind.STRING or 2 * self.numbers < self.present:
            return False
        distinct = len(self.categories.counts) if self.categories.are_counted else math.inf
        return bool(self.fractional) or distinct > min(_FEW_CODES, self.present / 2)

    @property
    def is_mostly_unique(self) -> bool:
        """Whether the shares of single values say nothing, because most came once or too many."""
        return not self.categories.are_counted or self.categories.singles_share > MOSTLY

    @property
    def present(self) -> int:
        return self.numbers + self.boolean + self.text

    @property
    def completeness(self) -> float:
        whole = self.present + self.missing
        return self.present / whole if whole else 0.0

    @property
    def inferred(self) -> Kind:
        """The type by Deequ's rule (DataType.scala, determineType): one cell of text decides."""
        if self.text or self.boolean:
            return Kind.STRING
        if self.fractional:
            return Kind.FRACTIONAL
        return Kind.INTEGRAL if self.integral else Kind.UNKNOWN

    def add(self, cells: Sequence[str]) -> None:
        present = [cell for cell in cells if cell] if "" in cells else cells
        self.missing += len(cells) - len(present)
        if not present:
            return
        if not (self.kind and self.kind.is_numeric) and self._keeps_categories:
            self.categories.add(present)
        if self.kind is Kind.STRING and not self.has_numbers:
            self._add_text(present)
        elif not self._add_plain(present):
            self._add_each(present)

    @property
    def _keeps_categories(self) -> bool:
        """Many different numbers are not categories, unless text turned up among them."""
        return self.categories.are_counted or self.kind is Kind.STRING or self.text > 0

    def _add_plain(self, cells: Sequence[str]) -> bool:
        """Add cells all at once if all are finite decimal numbers; else return False."""
        text = ",".join(cells)
        try:
            data = text.encode("ascii")
        except UnicodeEncodeError:
            return False
        rest = data.translate(None, _PLAIN)
        if rest.strip(b"eE+") or data[:1] == b"." or data[-1:] == b".":
            return False
        if data.count(b",") >= len(cells) or any(odd in data for odd in _ODD_POINTS):
            return False
        try:
            values: Values = np.fromstring(text, sep=",")
        except ValueError:
            return False
        if len(values) != len(cells) or not np.isfinite(values).all():
            return False
        fractional = (
            sum("." in cell or "e" in cell or "E" in cell for cell in cells)
            if rest
            else text.count(".")
        )
        if fractional and self.kind is Kind.INTEGRAL:
            fractional = int(np.count_nonzero(values % 1))
        self.fractional += fractional
        self.integral += len(cells) - fractional
        self._add_values(values)
        return True

    def _add_each(self, cells: Sequence[str]) -> None:
        values: list[float] = []
        others: list[str] = []
        for cell in cells:
            match = _NUMBER.fullmatch(cell)
            value = float(cell.replace(" ", "")) if match else math.inf
            if match and math.isfinite(value):
                values.append(value)
                is_whole = match[1] is None and match[2] is None
                is_whole |= self.kind is Kind.INTEGRAL and value.is_integer()
                self.integral += is_whole
                self.fractional += not is_whole
                continue
            others.append(cell)
        if values:
            self._add_values(np.array(values))
        if others:
            self._add_text(others)

    def _add_text(self, cells: Sequence[str]) -> None:
        booleans = sum(cell in ("true", "false") for cell in cells)
        self.boolean += booleans
        self.text += len(cells) - booleans
        if len(self.examples) < _EXAMPLES:
            known = dict.fromkeys(self.examples)
            known |= dict.fromkeys(cell[:LONGEST_CATEGORY] for cell in cells)
            self.examples = [*known][:_EXAMPLES]
        if not (self.kind and self.kind.is_numeric):
            self.lengths.add(np.fromiter(map(len, cells), dtype=np.float64, count=len(cells)))

    def _add_values(self, values: Values) -> None:
        self.moments.add(values)
        self.sketch.add(values)


def kept(value: str) -> str:
    """Return a value as a category: long texts that begin alike, such as prompts, differ still."""
    if len(value) <= LONGEST_CATEGORY:
        return value
    return f"{value[: LONGEST_CATEGORY - _CHECKSUM]}…{_checksum(value):08x}"


def _checksum(value: str) -> int:
    return crc32(value.encode("utf-8", "surrogatepass"))


def hash_of(value: str) -> int:
    return _checksum(kept(value))


def singles_share(counts: Collection[int]) -> float:
    """Return the chance that one more value is a new one, as Good and Turing estimate it."""
    whole = sum(counts)
    return sum(count == 1 for count in counts) / whole if whole else 0.0


def shown(value: float | None) -> str:
    """Return `value` for a person: whole numbers in full, others with four significant digits."""
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def percent(share: float | None) -> str:
    if share is None or not math.isfinite(share):
        return "?"
    return f"{100 * share:.1f} %" if 0.001 <= share <= 0.999 else f"{100 * share:.4g} %"


def are_numbers_of_another_spelling(cells: Collection[str]) -> bool:
    """Whether most are numbers to a person, and text to Deequ: `1,5`, `.5`, `$3`, `7 %`."""
    return bool(cells) and 2 * sum(map(_looks_numeric, cells)) > len(cells)


def _looks_numeric(cell: str) -> bool:
    return _SPELLED.fullmatch(cell) is not None and not is_number(cell)


_SPELLED = re.compile(
    r"""[-+\u2212(]? \s? [$€£¥]? \s? [-+]?
    (?: \d{1,3} (?:[.,'_\ \u00a0\u202f]\d{3}){1,9} (?:[.,]\d{1,30})?
    | \d{1,30} (?:[.,]\d{0,30})? | [.,]\d{1,30} )
    (?:[eE][-+]?\d{1,3})? \s? [%€$£¥)]?""",
    re.VERBOSE,
)


def is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None
