"""Users and their histories from a file, in long form (one row an interaction) or wide form (one row a user).

Wide form streams. Long form may scatter a user's rows over the file, so it is grouped in memory first, as numbers: some
28 bytes per row, and each distinct user and item id once. What a file is, and what its columns and cells mean,
`flr_model.files` finds out, for scoring as for preparing.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flr_model import columns
from flr_model.errors import ConfigError
from flr_model.files.cells import CellError, as_id, elements, is_list
from flr_model.files.events import Events
from flr_model.files.header import find_columns, has_column, times_elsewhere
from flr_model.files.lists import ListReader
from flr_model.files.reading import Reading
from flr_model.files.rows import Row
from flr_model.files.tables import Table, count_rows, open_table, sample
from flr_model.files.times import MICROSECONDS

log = logging.getLogger(__name__)

FORMS = ("auto", "long", "wide")

EMPTY, NO_LINE = "empty history", "no usable line"
"""Problems of a user of whom nothing is known, in wide and in long form."""


class Entry(NamedTuple):
    """One user, or one line that is of no use.

    Args:
        line: where the user first occurs.
        user: external id; empty where it cannot be read.
        items: external ids, oldest first.
        times: seconds of each item, 0 where unknown.
        problem: why it cannot be scored; empty if it can.
        is_user: false for a broken line of the long form, beside which its user may have good ones.
    """

    line: int
    user: str
    items: list[str]
    times: list[int]
    problem: str = ""
    is_user: bool = True

    @property
    def is_blank(self) -> bool:
        """Whether this is a user without any history."""
        return bool(self.user) and self.problem in (EMPTY, NO_LINE)


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of the users, the ``number``-th, counted from 1; a user is always in the same part."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """Read "2/8"; None is all users.

        Raises:
            ConfigError: if it is not of that form.
        """
        if text is None:
            return cls()
        try:
            number, count = (int(part) for part in text.split("/"))
        except ValueError:
            number, count = 0, 0
        if not 1 <= number <= count:
            raise ConfigError(f"--shards is {text!r}, expected for instance 2/8: the second of eight parts")
        return cls(number, count)

    def holds(self, entry: Entry) -> bool:
        """Say whether an entry belongs to this part; a line without a readable user goes by its number."""
        key = entry.user or str(entry.line)
        return zlib.crc32(key.encode("utf-8", "surrogatepass")) % self.count == self.number - 1


@dataclass
class HistoryFile:
    """A file of histories whose columns were found.

    Args:
        table: the file.
        wide: its form.
        found: name in the file of the columns of users, of items or lists, and, if there are any, of times.
        reading: what is known of the file.
        n_users: about how many users there are; None until known, which in long form is when they have been grouped.
    """

    table: Table
    wide: bool
    found: dict[str, str]
    reading: Reading
    n_users: int | None

    @classmethod
    def open(
        cls, path: Path, reading: Reading | None = None, form: str = "auto", *, ordered: bool = True
    ) -> HistoryFile:
        """Open a file and find its form and columns; the arguments are those of `of`, and the file's path.

        Raises:
            ConfigError: if there is no such form.
            DataError: if the file cannot be read or lacks a column.
        """
        reading = reading or Reading()
        return cls.of(open_table(path, reading), reading, form, ordered=ordered)

    @classmethod
    def of(cls, table: Table, reading: Reading, form: str = "auto", *, ordered: bool = True) -> HistoryFile:
        """Find form and columns of a table.

        Args:
            table: the file.
            reading: what is known of it.
            form: "long", "wide", or "auto": the content decides.
            ordered: whether the order of a user's items matters, so that missing times are worth a warning.

        Raises:
            ConfigError: if there is no such form.
            DataError: if the table cannot be read or lacks a column.
        """
        if form not in FORMS:
            raise ConfigError(f"--form is {form!r}, not one of {', '.join(FORMS)}")
        item = _item_column(table, reading, form)
        wide = form == "wide" or (form == "auto" and item is not None and _is_wide(table, item, reading))
        found = _find(table, reading, item, wide=wide)
        if not wide and ordered and reading.time and columns.TIME not in found:
            _warn_untimed(table, reading)
        log.info(
            "%s: %s form, columns %s (%s)",
            table.path,
            "wide" if wide else "long",
            ", ".join(found.values()),
            table.about,
        )
        return cls(table, wide, found, reading, count_rows(table) if wide else None)

    def entries(self) -> Iterator[Entry]:
        """Give every user once per row (wide) or once (long, in order of first appearance), and every broken line.

        Raises:
            DataError: if the file is damaged, or its times are ambiguous.
        """
        if not self.wide:
            yield from self._grouped()
            return
        reader = ListReader.of(self.table, self.found, self.reading)
        wanted = [self.found[c] for c in (columns.USER, columns.HISTORY, columns.HISTORY_TIMES) if c in self.found]
        for row in self.table.rows(wanted):
            yield wide_entry(row, reader)

    def _grouped(self) -> Iterator[Entry]:
        events = Events()
        for fault in events.read(self.table, self.found, self.reading):
            what = f"{fault.what}: {fault.cell}" if fault.cell else fault.what
            yield Entry(fault.line, fault.user, [], [], what, is_user=False)
        self.n_users = len(events.users)
        yield from _histories(events)


def _item_column(table: Table, reading: Reading, form: str) -> str | None:
    """Return the column of items or lists: the one that is named, else a list's name, else an item's.

    A name that lists and counts both have is believed only where there is no other.
    """
    kinds = (columns.ITEM,) if form == "long" else (columns.HISTORY, columns.ITEM)
    wanted = [reading.names[kind] for kind in kinds if kind in reading.names]
    if not wanted:
        wanted = [reading.remembered[kind] for kind in kinds if kind in reading.remembered]
        wanted += [*(alias for kind in kinds for alias in columns.ALIASES[kind]), *columns.LISTS]
    return next((name for name in wanted if has_column(table, name)), None)


def _is_wide(table: Table, item: str, reading: Reading) -> bool:
    """Say whether a column holds lists: by its cells, and by its name where single ids leave both open."""
    name = find_columns(table, (), (columns.ITEM,), Reading(names={columns.ITEM: item}))[columns.ITEM]
    cells = sample(table, name)
    if 2 * sum(map(is_list, cells)) > len(cells):
        return True
    key = columns.normalized(name)
    if key in columns.ALIASES[columns.HISTORY]:
        return True
    if key not in columns.LISTS:
        return False
    if any(_several(cell) for cell in cells):
        return True
    user = find_columns(table, (columns.USER,), reading=reading)[columns.USER]
    users = sample(table, user)
    return len(set(map(str, users))) == len(users)  # each user once


def _several(cell: object) -> bool:
    try:
        return len(elements(cell)) > 1
    except CellError:
        return False


def _find(table: Table, reading: Reading, item: str | None, *, wide: bool) -> dict[str, str]:
    """Find the columns of a form, under the names of that form."""
    kind, times = (columns.HISTORY, columns.HISTORY_TIMES) if wide else (columns.ITEM, columns.TIME)
    names = {columns.USER: reading.names.get(columns.USER), kind: item}
    names[times] = reading.names.get(times) or reading.names.get(columns.TIME)
    given = Reading(names={c: name for c, name in names.items() if name}, remembered=reading.remembered)
    if item is None:  # which is refused, by the name of an item
        find_columns(table, (columns.USER, columns.ITEM), reading=reading)
    return find_columns(table, (columns.USER, kind), (times,) if reading.time else (), given)


def _warn_untimed(table: Table, reading: Reading) -> None:
    near = times_elsewhere(table)
    log.warning(
        "%s: no time column that flr knows%s: rows count in the order of the file, oldest first "
        "(--no-time says that it is meant, --time-col %s names one)",
        table.path,
        f" ({near!r} looks like times)" if near else "",
        near or "NAME",
    )


def wide_entry(row: Row, reader: ListReader) -> Entry:
    """Read a row of the wide form: cells of user, items and, if there is a third one, times."""
    if row.cells is None:
        return Entry(row.line, "", [], [], row.problem)
    user = ""
    try:
        user = as_id(row.cells[0])
        if not user:
            return Entry(row.line, "", [], [], "no user id")
        items, times = reader.read(*row.cells[1:])
    except CellError as error:
        return Entry(row.line, user, [], [], str(error))
    return Entry(row.line, user, items, [time // MICROSECONDS for time in times], "" if items else EMPTY)


def _histories(events: Events) -> Iterator[Entry]:
    """Give the users, each with its items in order of time; rows of equal time stay in the file's order."""
    user, item, time = events.arrays()
    order = np.lexsort((time, user))
    bounds = np.searchsorted(user[order], np.arange(len(events.users) + 1))
    codes, times = item[order], time[order] // MICROSECONDS
    names = list(events.items)
    for number, (name, line) in enumerate(zip(events.users, events.first_line, strict=True)):
        start, stop = bounds[number], bounds[number + 1]
        items = [names[code] for code in codes[start:stop].tolist()]
        yield Entry(line, name, items, times[start:stop].tolist(), "" if items else NO_LINE)
