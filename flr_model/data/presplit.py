"""Ready-made splits: one row per target with its history as a list in a cell (the form of D3 and LatentR3).

A list is a Python or JSON literal, parsed as a literal and never evaluated; a column without brackets is read as ids
separated by spaces (the form of Amazon's 2023 files).

Shapes: R rows, S the sum of the histories' lengths.
"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flr_model import columns
from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.errors import DataError, counted
from flr_model.files.tables import Table, find_columns, in_rows, open_table
from flr_model.files.values import MICROSECONDS, Ints, as_ids, as_times

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitFile:
    """One ready-made split, ids not yet mapped.

    Args:
        path: the file.
        about: how it was read.
        user_id: (R,) external ids.
        item_id: (R,) external ids of the targets.
        history: (S,) external ids, row after row, oldest first; in the file's order where there are no times.
        times: (S,) seconds; 0 when the file has none.
        offsets: (R + 1,) where each row's history begins.
        target_time: (R,) seconds; 0 when the file has none.
        timed: whether histories and targets have times.
        dropped: rows left out because their history is empty.
    """

    path: Path
    about: str
    user_id: npt.NDArray[Any]
    item_id: npt.NDArray[Any]
    history: npt.NDArray[Any]
    times: Ints
    offsets: Ints
    target_time: Ints
    timed: bool
    dropped: int

    def rows(self, catalog: Catalog, max_history: int) -> HistoryRows:
        """Map the ids to positions; rows keep their order."""
        return HistoryRows(
            self.user_id,
            catalog.positions(self.history),
            self.times,
            self.offsets,
            catalog.positions(self.item_id),
            self.target_time,
        ).cut(max_history)


def read_split(path: Path, names: Mapping[str, str], *, elsewhere: Sequence[str] = ()) -> SplitFile:
    """Read a file with a user, a target, a history and, if there are such columns, their times.

    Args:
        path: delimited text, Parquet or JSON Lines; plain or gzip.
        names: the user's names for columns, keyed as in `flr_model.columns`.
        elsewhere: columns whose given name may be that of another file.

    Raises:
        DataError: if the file cannot be read, lacks a column, or has cells that are not what they should be; all
            kinds of problems of the file in one message.
    """
    table = open_table(path)
    required = (columns.USER, columns.ITEM, columns.HISTORY)
    found = find_columns(table, required, (columns.TIME, columns.HISTORY_TIMES), names, elsewhere=elsewhere)
    reader = _Reader(table, found, table.read(list(found.values())))
    user_id, item_id = reader.ids(columns.USER), reader.ids(columns.ITEM)
    lists = reader.lists()
    target_time, times = reader.target_times(), reader.history_times(lists)
    if reader.problems:
        raise DataError(
            f"{path}: {'; '.join(reader.problems)}", hint="repair these rows; lists are like [12, 7] or ['a', 'b']"
        )
    lengths = np.fromiter(map(len, lists), np.int64, count=len(lists))
    oldest_first = np.lexsort((times, np.repeat(np.arange(len(lists)), lengths)))  # stable: ties stay as they stand
    keep = lengths > 0
    if not keep.any():
        raise DataError(f"{path}: no row has a history", hint="give rows with at least one earlier item each")
    if not keep.all():
        logger.warning("%s: %s without a history left out", path, counted(int((~keep).sum()), "row"))
    return SplitFile(
        path=path,
        about=table.about,
        user_id=user_id[keep],
        item_id=item_id[keep],
        history=np.asarray([item for items in lists for item in items], object)[oldest_first],
        times=times[oldest_first] // MICROSECONDS,
        offsets=np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64),
        target_time=target_time[keep] // MICROSECONDS,
        timed={columns.TIME, columns.HISTORY_TIMES} <= set(found),
        dropped=int((~keep).sum()),
    )


@dataclass(frozen=True)
class _Reader:
    """Turns the columns of one file into arrays, and gathers what is wrong in them.

    Args:
        table: the file, for places in messages.
        found: name in the file of each column.
        data: its R rows.
        problems: filled while reading; the arrays are only good while it is empty.
    """

    table: Table
    found: Mapping[str, str]
    data: pa.Table
    problems: list[str] = field(default_factory=list)

    def ids(self, column: str) -> npt.NDArray[Any]:
        """(R,) ids of a plain column."""
        codes, ids = as_ids(self._cells(column))
        self._refuse(column, "is empty", np.flatnonzero(codes < 0))
        return np.append(ids, "")[codes]

    def lists(self) -> list[list[str]]:
        """(R,) histories."""
        texts = [
            None if cell is None else [_text(id_) for id_ in cell] for cell in _parse(self._cells(columns.HISTORY))
        ]
        bad = [row for row, cell in enumerate(texts) if cell is None or "" in cell]
        self._refuse(columns.HISTORY, "is not a list of ids", bad)
        return [cell or [] for cell in texts]

    def target_times(self) -> Ints:
        """(R,) microseconds of the targets; 0 without such a column."""
        if columns.TIME not in self.found:
            return np.zeros(len(self.data), np.int64)
        times, bad = as_times(self._cells(columns.TIME))
        self._refuse(columns.TIME, "is neither a number nor an ISO date", np.flatnonzero(bad))
        return times

    def history_times(self, lists: Sequence[Sequence[str]]) -> Ints:
        """(S,) microseconds of the histories' items; 0 without such a column."""
        lengths = [len(items) for items in lists]
        if columns.HISTORY_TIMES not in self.found:
            return np.zeros(sum(lengths), np.int64)
        parsed = [cell if cell is not None else [] for cell in _parse(self._cells(columns.HISTORY_TIMES))]
        uneven = [row for row, cell in enumerate(parsed) if len(cell) != lengths[row]]
        self._refuse(columns.HISTORY_TIMES, "is not a list of as many times as the history has items", uneven)
        texts = [_text(value) for cell in parsed for value in cell]
        times, bad = as_times(pa.chunked_array([pa.array(texts, pa.string())]))
        row_of = np.repeat(np.arange(len(parsed)), [len(cell) for cell in parsed])
        self._refuse(columns.HISTORY_TIMES, "has what is neither a number nor an ISO date", np.unique(row_of[bad]))
        return times

    def _cells(self, column: str) -> pa.ChunkedArray:
        return self.data[self.found[column]]

    def _refuse(self, column: str, wrong: str, rows: Sequence[int] | Ints) -> None:
        if len(rows) == 0:
            return
        self.problems.append(f"{self.found[column]} {wrong} {in_rows(self.table, rows, self._cells(column))}")


def _parse(column: pa.ChunkedArray) -> list[list[Any] | None]:
    """Read (R,) cells as lists; None where a cell is something else."""
    cells = column.to_pylist()
    if any(isinstance(cell, str) and cell.lstrip()[:1] in ("[", "(") for cell in cells):
        return [_literal(cell) for cell in cells]
    return [_separated(cell) for cell in cells]


def _literal(cell: Any) -> list[Any] | None:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            try:
                cell = ast.literal_eval(cell.strip())
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return None
    return list(cell) if isinstance(cell, (list, tuple)) else None


def _separated(cell: Any) -> list[Any] | None:
    if isinstance(cell, str):
        return None if "," in cell else cell.split()
    return [] if cell is None else list(cell)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else "" if value != value else str(value)
    return "" if value is None or isinstance(value, (list, dict)) else str(value).strip()
