"""The interactions file: who did something with what, and when.

Shapes: E interactions, U users, I items.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model import columns
from flr_model.errors import DataError, counted
from flr_model.files.tables import Table, find_columns, in_rows, open_table
from flr_model.files.values import Ints, as_ids, as_times

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interactions:
    """Interactions in the order of their file, users and items numbered.

    Args:
        path: the file.
        about: how it was read.
        user: (E,) number of the user.
        item: (E,) number of the item.
        time: (E,) microseconds since 1970; all 0 when the file has no time column.
        user_ids: (U,) external ids.
        item_ids: (I,) external ids.
        timed: whether the file has a time column.
        dropped: rows left out because their user or item is empty.
    """

    path: Path
    about: str
    user: Ints
    item: Ints
    time: Ints
    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    timed: bool
    dropped: int

    def __len__(self) -> int:
        return len(self.user)

    def select(self, keep: npt.NDArray[np.bool_]) -> Interactions:
        """Return the interactions of a mask; numbers and ids stay."""
        return replace(self, user=self.user[keep], item=self.item[keep], time=self.time[keep])


def read_interactions(path: Path, names: Mapping[str, str], *, elsewhere: Sequence[str] = ()) -> Interactions:
    """Read users, items and, if there is such a column, times.

    Args:
        path: delimited text, Parquet, JSON Lines or a RecBole atomic file; plain or gzip.
        names: the user's names for columns, keyed as in `flr_model.columns`.
        elsewhere: columns whose given name may be that of another file.

    Raises:
        DataError: if the file cannot be read, lacks a column, has unreadable times, or has one user only.
    """
    table = open_table(path)
    found = find_columns(table, (columns.USER, columns.ITEM), (columns.TIME,), names, elsewhere=elsewhere)
    data = table.read(list(dict.fromkeys(found.values())))
    user, user_ids = as_ids(data[found[columns.USER]])
    item, item_ids = as_ids(data[found[columns.ITEM]])
    present = (user >= 0) & (item >= 0)
    time = np.zeros(len(user), np.int64)
    if columns.TIME in found:
        time = read_times(table, data[found[columns.TIME]], found[columns.TIME], present)
    read = Interactions(
        path, table.about, user, item, time, user_ids, item_ids, columns.TIME in found, int((~present).sum())
    )
    _refuse_useless(read, found)
    return read if present.all() else _without(read, present, table)


def read_times(table: Table, column: Any, name: str, needed: npt.NDArray[np.bool_]) -> Ints:
    """Read a column of times.

    Args:
        table: the file, for places in messages.
        column: its (E,) cells.
        name: of the column in the file.
        needed: (E,) rows whose time must be readable.

    Returns:
        (E,) microseconds since 1970.

    Raises:
        DataError: if a needed cell is not a time; all of them are counted.
    """
    times, bad = as_times(column)
    rows = np.flatnonzero(bad & needed)
    if len(rows):
        raise DataError(
            f"{table.path}: {name} is neither a number nor an ISO date {in_rows(table, rows, column)}",
            hint="times are seconds or milliseconds since 1970, or ISO dates such as 2018-11-01 or "
            "2018-11-01T12:30:00Z; another column is named with --time-col",
        )
    return times


def _refuse_useless(read: Interactions, found: Mapping[str, str]) -> None:
    user, item = found[columns.USER], found[columns.ITEM]
    if read.dropped == len(read):
        raise DataError(
            f"{read.path}: no row has both a user ({user}) and an item ({item})", hint="check --user-col and --item-col"
        )
    if len(read.user_ids) == 1:
        raise DataError(
            f"{read.path}: one user only in {counted(len(read), 'row')} ({user} is {str(read.user_ids[0])!r})",
            hint="check --user-col; at least two users are needed to learn from some and test on others",
        )


def _without(read: Interactions, present: npt.NDArray[np.bool_], table: Table) -> Interactions:
    where = in_rows(table, np.flatnonzero(~present))
    logger.warning("%s: no user or item %s, left out", read.path, where)
    return read.select(present)
