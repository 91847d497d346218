"""A file with a row per interaction: who did something with what, and when.

Read once, as numbers: some 28 bytes per row, and each distinct user and item id once.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flr_model import columns
from flr_model.files.cells import CellError, as_id, shown
from flr_model.files.header import find_rule
from flr_model.files.reading import Reading
from flr_model.files.rows import Row
from flr_model.files.tables import Table
from flr_model.files.times import TimeRule

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]

NEWEST_FIRST = 0.9
"""Share of steps from one row of a user to the next that go back in time, beyond which a file is newest first."""

FEWEST_STEPS = 10
"""Steps back in time from which on the order of a file can be told."""


class Fault(NamedTuple):
    """Why a row is left out.

    Args:
        line: of the row.
        user: external id; "" where it cannot be read.
        what: is wrong. cell: the cell in question, for messages.
        broken: false where the row is whole but has no user or no item.
    """

    line: int
    user: str
    what: str
    cell: str = ""
    broken: bool = True


@dataclass
class Events:
    """Interactions in the order of their file.

    Args:
        users: number of each external id, in order of first appearance; also of users whose rows are all left out.
        items: likewise.
        first_line: of each user.
        user: (E,) numbers. item: (E,) numbers. time: (E,) microseconds since 1970; 0 without times.
        rows: of the file, those left out included.
        rule: how times are read; None without times.
    """

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    first_line: array[int] = field(default_factory=lambda: array("q"))
    user: array[int] = field(default_factory=lambda: array("i"))
    item: array[int] = field(default_factory=lambda: array("i"))
    time: array[int] = field(default_factory=lambda: array("q"))
    rows: int = 0
    rule: TimeRule | None = None

    def read(self, table: Table, found: dict[str, str], reading: Reading) -> Iterator[Fault]:
        """Read a table whole, and give what is left out.

        Args:
            table: the file.
            found: name of the columns of users, items and, if there is one, times.
            reading: what is known of the file.

        Raises:
            DataError: if the file is damaged, or its times are ambiguous.
        """
        wanted = [found[column] for column in (columns.USER, columns.ITEM, columns.TIME) if column in found]
        self.rule = find_rule(table, found, columns.TIME, reading)
        for row in table.rows(wanted):
            self.rows += 1
            fault = self.add(row)
            if fault is not None:
                yield fault

    def add(self, row: Row) -> Fault | None:
        """Take a row, or return what is wrong with it; its user is known from then on in either case."""
        if row.cells is None:
            return Fault(row.line, "", row.problem)
        cells, user = row.cells, ""
        try:
            user = _known_id(cells[0], self.users)
            if not user:
                return Fault(row.line, "", "no user id", broken=False)
            code = self.users.setdefault(user, len(self.users))
            if code == len(self.first_line):
                self.first_line.append(row.line)
            item = _known_id(cells[1], self.items)
            if not item:
                return Fault(row.line, user, "no item id", broken=False)
            time = self.rule.ticks(cells[2]) if self.rule is not None else 0
        except CellError as error:
            what = f"the time {error.what}" if len(cells) > 2 and error.cell is cells[2] else error.what
            return Fault(row.line, user, what, shown(error.cell))
        self.user.append(code)
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.time.append(time)
        return None

    def arrays(self) -> tuple[Ints, Ints, Ints]:
        """Return (E,) users, items and times, turned round where the file is newest first."""
        user, item, time = (np.asarray(values, np.int64) for values in (self.user, self.item, self.time))
        if self.newest_first():
            return user[::-1], item[::-1], time[::-1]
        return user, item, time

    def newest_first(self) -> bool:
        """Say whether the rows of users stand newest first."""
        user, time = np.asarray(self.user, np.int64), np.asarray(self.time, np.int64)
        order = np.argsort(user, kind="stable")
        steps = np.diff(time[order])[np.diff(user[order]) == 0]
        back, on = int((steps < 0).sum()), int((steps > 0).sum())
        return back >= FEWEST_STEPS and back > NEWEST_FIRST * (back + on)


def _known_id(cell: Any, known: dict[str, int]) -> str:
    """Read an id; one that is written as it was before needs no reading."""
    return cell if type(cell) is str and cell in known else as_id(cell)
