"""A dataset as it streams by: its columns, under the names of the baseline where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sagemaker_byoc.monitor.data.columns import Column, Kind
from sagemaker_byoc.monitor.errors import DataError
from sagemaker_byoc.monitor.inputs.layout import Block

MOST_COLUMNS = 20_000


class Profile:
    """Memory is bounded by the number of columns, not of rows."""

    def __init__(
        self,
        kinds: Mapping[str, Kind] | None = None,
        categories: Mapping[str, frozenset[str]] | None = None,
        mixed: Iterable[str] = (),
    ) -> None:
        """`categories` are those that the baseline counted, by column; `mixed` the columns of text
        whose numbers are compared.
        """
        self.expected = tuple(kinds) if kinds is not None else None
        self.columns = {
            name: Column(name, kind=_kept(kind)) for name, kind in (kinds or {}).items()
        }
        for name, known in (categories or {}).items():
            if name in self.columns:
                self.columns[name].categories.known = known
        for name in mixed:
            if name in self.columns:
                self.columns[name].has_numbers = True
        self.seen: set[str] = set()
        """Names that at least one row had."""
        self.rows = 0

    def add(self, block: Block) -> None:
        for name, cells in zip(block.names, block.columns, strict=True):
            column = self.columns.get(name) or self._new(name)
            column.add(cells)
        self.seen.update(block.names)
        self.rows += block.rows
        if len(block.names) < len(self.columns):
            for name in self.columns.keys() - set(block.names):
                self.columns[name].missing += block.rows

    def _new(self, name: str) -> Column:
        if len(self.columns) >= MOST_COLUMNS:
            raise DataError(
                f"there are more than {MOST_COLUMNS} columns",
                hint="Let a preprocess_handler pick those that are worth watching",
            )
        column = self.columns[name] = Column(name, missing=self.rows)
        return column

    @property
    def missing(self) -> list[str]:
        return [name for name in self.expected or () if name not in self.seen]

    @property
    def extra(self) -> list[str]:
        known = set(self.expected or self.columns)
        return [name for name in self.columns if name not in known]


def _kept(kind: Kind) -> Kind | None:
    """A column that was empty in the baseline may hold anything now."""
    return None if kind is Kind.UNKNOWN else kind
