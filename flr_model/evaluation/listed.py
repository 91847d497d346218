"""Recommendations that somebody else made, ranked as the model is: a file of users, items, and ranks or scores.

Shapes: N recommendations, B rows, M items.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flr_model import columns
from flr_model.arrays import Floats, Ints, offsets_of, ranges
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import DataError, pluralize
from flr_model.files.cells import CellError, as_id, as_text, shown
from flr_model.files.header import find_columns
from flr_model.files.reading import Reading
from flr_model.files.rows import Rejects
from flr_model.files.tables import Table, open_table
from flr_model.ranking.candidates import EVERYTHING, Candidates

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A list of items for each user of a file, as a `flr_model.ranking.recommender.Scorer`.

    What a list does not name is no candidate: a target that is missing is a miss, and so are all targets of a user
    without a list. Seen items are left out as they are for the model.

    Args:
        path: the file.
        by: the column that orders the lists: rank or score.
        users: number of each user.
        offsets: (users + 1,) where each list begins in the two arrays below.
        items: (N,) positions.
        places: (N,) 0 for the best of a list; equal ranks or scores have one place.
        n_items: M.
    """

    path: Path
    by: str
    users: dict[str, int]
    offsets: Ints
    items: Ints
    places: Ints
    n_items: int

    @classmethod
    def read(cls, path: Path, catalog: Catalog, reading: Reading | None = None) -> Listed:
        """Read a file with a row per recommendation; of an item that a list has twice the best place counts.

        Args:
            path: with columns of users, items, and ranks (1 is the best) or else scores (the largest is the best).
            catalog: the items that can be a target; others are left out, with a warning.
            reading: what is known of the file.

        Raises:
            DataError: if the file cannot be read, lacks a column, or has no known item.
        """
        reading = reading or Reading()
        table = open_table(path, reading)
        found = find_columns(table, [columns.USER, columns.ITEM], [columns.RANK, columns.SCORE], reading)
        by = columns.RANK if columns.RANK in found else columns.SCORE
        if by not in found:
            raise DataError(
                f"{path} has no column of ranks or scores (such as {columns.RANK} or {columns.SCORE}). "
                f"Its columns are {', '.join(map(repr, table.names[:20]))}",
                hint="give each recommendation its rank (1 is the best) or its score, under such a name",
            )
        users, user, item_ids, value = _read(table, [found[columns.USER], found[columns.ITEM], found[by]])
        items = catalog.positions(item_ids)
        _check_known(path, items, item_ids)
        known = items != PAD
        order = value if by == columns.RANK else -value
        return cls._of(path, by, users, user[known], items[known], order[known], len(catalog))

    @classmethod
    def _of(
        cls, path: Path, by: str, users: dict[str, int], user: Ints, items: Ints, order: Floats, n_items: int
    ) -> Listed:
        """Sort (N,) recommendations into lists by user and order, smallest first."""
        first = np.lexsort((order, items, user))
        again = (np.diff(user[first], prepend=-1) == 0) & (np.diff(items[first], prepend=-1) == 0)
        kept = first[~again]
        kept = kept[np.lexsort((order[kept], user[kept]))]
        user, items, order = user[kept], items[kept], order[kept]
        offsets = offsets_of(np.bincount(user, minlength=len(users)))
        worse = (np.diff(user, prepend=-1) == 0) & (np.diff(order, prepend=np.nan) > 0)
        steps = np.cumsum(worse)
        places = steps - np.repeat(steps[np.minimum(offsets[:-1], len(steps) - 1)], np.diff(offsets))
        return cls(path, by, users, offsets, items, places, n_items)

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M), the best item of a list 0, the next -1; -inf for no candidate."""
        scores = np.full((len(rows), self.n_items), -np.inf, np.float32)
        user = self._numbers(rows)
        row = np.flatnonzero(user != PAD)
        start, length = self.offsets[user[row]], np.diff(self.offsets)[user[row]]
        cells = ranges(start, length)
        scores[np.repeat(row, length), self.items[cells]] = -self.places[cells]
        masked: Floats = candidates.mask(scores, rows)
        return masked

    def describe(self, rows: HistoryRows) -> dict[str, Any]:
        """Return what a result says of the file, and warn of what speaks against it.

        Args:
            rows: that are evaluated.
        """
        absent = self._numbers(rows) == PAD
        longest = int(np.diff(self.offsets).max(initial=0))
        missing = len(set(rows.user_id[absent].tolist()))
        if missing:
            logger.warning(
                "%s: %s of the evaluated rows have no recommendation in it: their %s are misses",
                *(self.path, pluralize(missing, "user"), pluralize(int(absent.sum()), "row")),
            )
        logger.info("%s: ordered by %s, at most %s a user", self.path, self.by, pluralize(longest, "item"))
        return {
            "file": str(self.path),
            "ordered_by": self.by,
            "users": len(self.users),
            "longest_list": longest,
            "users_without": missing,
            "rows_without": int(absent.sum()),
        }

    def _numbers(self, rows: HistoryRows) -> Ints:
        """Return (B,) the number of each row's user, PAD for one without a list."""
        return np.fromiter((self.users.get(str(user), PAD) for user in rows.user_id), np.int64, count=len(rows))


def _read(table: Table, names: list[str]) -> tuple[dict[str, int], Ints, list[str], Floats]:
    """Return the users' numbers, and (N,) users, item ids and values of a table's rows."""
    users: dict[str, int] = {}
    user: list[int] = []
    items: list[str] = []
    values: list[float] = []
    rejects, rows = Rejects(table.path), 0
    for row in table.rows(names):
        rows += 1
        if row.cells is None:
            rejects.add(row.line, row.problem)
            continue
        try:
            user_id, item_id, value = as_id(row.cells[0]), as_id(row.cells[1]), _number(row.cells[2], names[2])
        except CellError as error:
            rejects.add(row.line, error.what, shown(error.cell))
            continue
        if not user_id or not item_id:
            rejects.add(row.line, f"no {'item' if user_id else 'user'} id", broken=False)
            continue
        user.append(users.setdefault(user_id, len(users)))
        items.append(item_id)
        values.append(value)
    rejects.check(rows, hint="name the columns with --user-col and --item-col; ranks and scores are plain numbers")
    if len(rejects):
        logger.warning("%s: left out: %s", table.path, rejects.summary())
    return users, np.asarray(user, np.int64), items, np.asarray(values, np.float64)


def _number(cell: Any, name: str) -> float:
    try:
        value = float(as_text(cell))
    except ValueError:
        value = float("nan")
    if value != value:
        raise CellError(f"{name} is no number", cell)
    return value


def _check_known(path: Path, items: Ints, item_ids: list[str]) -> None:
    unknown = list(dict.fromkeys(i for i, position in zip(item_ids, items.tolist(), strict=True) if position == PAD))
    if len(items) == 0 or (items == PAD).all():
        raise DataError(
            f"{path} recommends no item of the dataset, but for instance {', '.join(unknown[:3]) or 'none at all'}",
            hint="give ids of the dataset's items; --item-col recs=NAME names their column",
        )
    if unknown:
        logger.warning(
            "%s: recommendations of items that the dataset lacks are left out: %d of %d, for instance %s",
            *(path, int((items == PAD).sum()), len(items), ", ".join(unknown[:3])),
        )
