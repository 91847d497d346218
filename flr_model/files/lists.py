"""Histories as lists in cells, and their times: one reading for ready-made splits and for scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flr_model import columns
from flr_model.errors import pluralize
from flr_model.files.cells import CellError, elements, find_separator, parse_list
from flr_model.files.header import ambiguous
from flr_model.files.reading import Reading
from flr_model.files.tables import Table, sample
from flr_model.files.times import AmbiguousTimesError, TimeRule


@dataclass(frozen=True)
class ListReader:
    """Reads the lists of one file.

    Args:
        separator: of lists without brackets, as the first rows show it; None leaves it to each cell.
        rule: how the times are read; None where there are none.
    """

    separator: str | None = None
    rule: TimeRule | None = None

    @classmethod
    def of(cls, table: Table, found: dict[str, str], reading: Reading) -> ListReader:
        """Look at the lists of a file.

        Args:
            table: the file.
            found: name of the column of lists and, if there is one, of that of their times.
            reading: what is known of the file.

        Raises:
            DataError: if the file is damaged, or its times are ambiguous.
        """
        separator = find_separator(sample(table, found[columns.HISTORY]))
        name = found.get(columns.HISTORY_TIMES)
        if name is None:
            return cls(separator)
        known = reading.format_of(columns.HISTORY_TIMES, name)
        if known:
            return cls(separator, TimeRule(known))
        cells = (row.cells[0] for row in table.rows([name]) if row.cells is not None)
        try:
            return cls(separator, TimeRule.find(time for cell in cells for time in _quietly(cell)))
        except AmbiguousTimesError as error:
            raise ambiguous(table, name, error) from None

    def read(self, cell: Any, time_cell: Any = None) -> tuple[list[str], list[int]]:
        """Read a list of ids and their times, oldest first; items of one moment stay as they stand.

        Returns:
            (L,) ids, (L,) microseconds since 1970, 0 without times. Elements without an id are left out.

        Raises:
            CellError: if a cell is no list, an element is no id or no time, or the lists differ in length.
        """
        items = parse_list(cell, self.separator)
        if self.rule is None:
            kept = [item for item in items if item]
            return kept, [0] * len(kept)
        times = elements(time_cell)
        if len(times) != len(items):
            raise CellError(f"{pluralize(len(items), 'item')} but {pluralize(len(times), 'time')}")
        read = [(self.rule.ticks(time), item) for time, item in zip(times, items, strict=True) if item]
        read.sort(key=lambda pair: pair[0])
        return [item for _, item in read], [time for time, _ in read]


def _quietly(cell: Any) -> list[Any]:
    try:
        return elements(cell)
    except CellError:
        return []
