"""Ready-made splits: one row per target with its history as a list in a cell (the form of D3 and LatentR3).

Shapes: R rows, S the sum of the histories' lengths.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model import columns
from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.errors import DataError
from flr_model.files.cells import CellError, as_id, shown
from flr_model.files.events import Ints
from flr_model.files.header import find_columns, find_rule
from flr_model.files.lists import ListReader
from flr_model.files.reading import Reading
from flr_model.files.rows import Rejects, Row
from flr_model.files.tables import open_table
from flr_model.files.times import MICROSECONDS, TimeRule

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
        rejects: rows that are left out.
        found: name in the file of each column.
        rule: how times are read; None when there are none.
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
    rejects: Rejects
    found: Mapping[str, str] = field(default_factory=dict)
    rule: TimeRule | None = None

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


def read_split(path: Path, reading: Reading, *, elsewhere: tuple[str, ...] = (), strict: bool = False) -> SplitFile:
    """Read a file with a user, a target, a history and, if there are such columns, their times.

    Args:
        path: delimited text, Parquet or JSON Lines, plain or gzip; or a folder of parts.
        reading: what is known of the file.
        elsewhere: columns whose given name may be that of another file.
        strict: refuse the file at its first broken row.

    Raises:
        DataError: if the file cannot be read, lacks a column, or has too many cells that are not what they should be;
            all kinds of problems of the file in one message.
    """
    table = open_table(path, reading)
    required, times = (columns.USER, columns.ITEM, columns.HISTORY), (columns.TIME, columns.HISTORY_TIMES)
    found = find_columns(table, required, times if reading.time else (), reading, elsewhere=elsewhere)
    rows = _Rows(Rejects(path), ListReader.of(table, found, reading), find_rule(table, found, columns.TIME, reading))
    n, wanted = 0, [column for column in (*required, *times) if column in found]
    for row in table.rows([found[column] for column in wanted]):
        n += 1
        rows.add(row, wanted)
    if not rows.lengths and not rows.rejects.broken:
        raise DataError(f"{path}: no row has a history", hint="give rows with at least one earlier item each")
    rows.rejects.check(n, hint="repair these rows; lists are like [12, 7] or ['a', 'b']", strict=strict)
    if len(rows.rejects):
        logger.warning("%s: left out: %s", path, rows.rejects.summary())
    timed = set(times) <= set(found)
    if not timed and reading.time:
        logger.warning("%s: no times: histories are taken as oldest first (--no-time says that it is meant)", path)
    return SplitFile(
        path=path,
        about=table.about,
        user_id=np.asarray(rows.users, object),
        item_id=np.asarray(rows.targets, object),
        history=np.asarray(rows.items, object),
        times=np.asarray(rows.times, np.int64) // MICROSECONDS,
        offsets=np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int64),
        target_time=np.asarray(rows.target_times, np.int64) // MICROSECONDS,
        timed=timed,
        rejects=rows.rejects,
        found=found,
        rule=rows.rule or rows.reader.rule,
    )


@dataclass
class _Rows:
    """Gathers the rows of one file, and what is wrong in the others.

    Args:
        rejects: filled with rows that are left out.
        reader: of the lists.
        rule: of the targets' times; None when there are none.
    """

    rejects: Rejects
    reader: ListReader
    rule: TimeRule | None
    users: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    target_times: list[int] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, row: Row, names: list[str]) -> None:
        """Take a row, or note all that is wrong with it."""
        if row.cells is None:
            self.rejects.add(row.line, row.problem)
            return
        cells = dict(zip(names, row.cells, strict=True))
        problems: list[tuple[str, str, bool]] = []
        user, target = (self._id(cells[column], column, problems) for column in (columns.USER, columns.ITEM))
        items: list[str] = []
        times: list[int] = []
        target_time = 0
        try:
            items, times = self.reader.read(cells[columns.HISTORY], cells.get(columns.HISTORY_TIMES))
            if not items:
                problems.append(("empty history", "", False))
        except CellError as error:
            problems.append((f"{columns.HISTORY}: {error.what}", shown(error.cell), True))
        if self.rule is not None:
            try:
                target_time = self.rule.ticks(cells[columns.TIME])
            except CellError as error:
                problems.append((f"{columns.TIME} {error.what}", shown(error.cell), True))
        for what, cell, broken in problems[:1]:
            self.rejects.add(row.line, what, cell, broken=broken)
        for what, cell, _ in problems[1:]:
            self.rejects.add(row.line, what, cell, broken=False)
        if not problems:
            self.users.append(user)
            self.targets.append(target)
            self.target_times.append(target_time)
            self.items += items
            self.times += times
            self.lengths.append(len(items))

    def _id(self, cell: Any, column: str, problems: list[tuple[str, str, bool]]) -> str:
        try:
            read = as_id(cell)
            if not read:
                problems.append((f"no {'user' if column == columns.USER else 'item'} id", "", True))
        except CellError as error:
            problems.append((f"{column}: {error.what}", shown(error.cell), True))
            return ""
        return read
