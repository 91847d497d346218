"""Users and their histories from a file, in long form (one row an interaction) or wide form (one row a user).

Wide form streams. Long form may scatter a user's rows over the file, so it is grouped in memory first, as numbers: some
16 bytes per row, and each distinct user and item id once.
"""

from __future__ import annotations

import logging
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.scoring.cells import as_id, parse_list
from export.scoring.rows import Row, count_rows, stream_rows
from flr_model import columns
from flr_model.errors import ConfigError
from flr_model.files.tables import Table, find_columns, open_table
from flr_model.files.times import parse_time

log = logging.getLogger(__name__)

WIDE_ALIASES = (*columns.ALIASES[columns.HISTORY], "items", "item_ids")
"""Header names of a column of lists; they win over the aliases of a single item."""


@dataclass(frozen=True, kw_only=True)
class InputColumns:
    """How to read a file of histories.

    Args:
        user: name of the user column; None finds it by its usual names. item, time, title: likewise.
        form: "long", "wide", or "auto": wide if the item column has lists or a list's name.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    title: str | None = None
    form: str = "auto"

    def __post_init__(self) -> None:
        if self.form not in ("auto", "long", "wide"):
            raise ConfigError(f"--form is {self.form!r}, not one of auto, long, wide")

    def given(self) -> dict[str, str]:
        """Return the names that were given, keyed as in `flr_model.columns`."""
        names = {columns.USER: self.user, columns.ITEM: self.item, columns.TIME: self.time, columns.TITLE: self.title}
        return {column: name for column, name in names.items() if name is not None}


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


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of the users, the ``number``-th, counted from 1; a user is always in the same part."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "2/8".

        Raises:
            ConfigError: if it is not of that form.
        """
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
        wanted: the columns for user, item and, if there is one, time.
        n_users: about how many users there are; None until known, which in long form is when they have been grouped.
    """

    table: Table
    wide: bool
    wanted: list[str]
    n_users: int | None

    @classmethod
    def open(cls, path: Path, names: InputColumns) -> HistoryFile:
        """Find the columns.

        Raises:
            DataError: if the file cannot be read or lacks a column.
        """
        table = open_table(path)
        given = names.given()
        lists = None if names.form == "long" else _first(table, WIDE_ALIASES)
        if lists is not None:
            given.setdefault(columns.ITEM, lists)
        found = find_columns(table, (columns.USER, columns.ITEM), (columns.TIME,) if names.time else (), given)
        wide = names.form == "wide" or (names.form == "auto" and _has_lists(table, found[columns.ITEM]))
        times = columns.ALIASES[columns.HISTORY_TIMES if wide else columns.TIME]
        time = found.get(columns.TIME) or _first(table, times)
        wanted = [found[columns.USER], found[columns.ITEM], *([time] if time else [])]
        log.info("%s: %s form, columns %s (%s)", path, "wide" if wide else "long", ", ".join(wanted), table.about)
        return cls(table, wide, wanted, count_rows(table) if wide else None)

    def entries(self) -> Iterator[Entry]:
        """Give every user once per row (wide) or once (long, in order of first appearance), and every broken line.

        Raises:
            DataError: if the file is damaged.
        """
        rows = stream_rows(self.table, self.wanted)
        return map(wide_entry, rows) if self.wide else self._grouped(rows)

    def _grouped(self, rows: Iterator[Row]) -> Iterator[Entry]:
        groups = _Groups()
        for row in rows:
            broken = groups.add(row)
            if broken is not None:
                yield broken
        self.n_users = len(groups.users)
        yield from groups.entries()


def _first(table: Table, aliases: Sequence[str]) -> str | None:
    spelled = {columns.normalized(name): name for name in reversed(table.names)}
    return next((spelled[alias] for alias in aliases if alias in spelled), None)


def _has_lists(table: Table, item: str) -> bool:
    if columns.normalized(item) in WIDE_ALIASES:
        return True
    first = next(stream_rows(table, [item]), None)
    return bool(first and first.cells and str(first.cells[0]).lstrip().startswith("["))


def wide_entry(row: Row) -> Entry:
    """Read a row of the wide form: cells of user, items and, if there is a third one, times."""
    if row.cells is None:
        return Entry(row.line, "", [], [], row.problem)
    user = as_id(row.cells[0])
    if not user:
        return Entry(row.line, "", [], [], "no user id")
    try:
        items = parse_list(row.cells[1])
        times = [parse_time(value) for value in parse_list(row.cells[2])] if len(row.cells) > 2 else [0.0] * len(items)
    except ValueError as error:
        return Entry(row.line, user, [], [], str(error))
    if len(times) != len(items):
        return Entry(row.line, user, [], [], f"{len(items)} items but {len(times)} times")
    if not items:
        return Entry(row.line, user, [], [], "empty history")
    order = sorted(range(len(items)), key=times.__getitem__)
    return Entry(row.line, user, [items[i] for i in order], [int(times[i]) for i in order])


@dataclass
class _Groups:
    """The interactions of a long file as numbers: codes of users and items in order of first appearance."""

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    first_line: array[int] = field(default_factory=lambda: array("q"))
    user: array[int] = field(default_factory=lambda: array("i"))
    item: array[int] = field(default_factory=lambda: array("i"))
    time: array[float] = field(default_factory=lambda: array("d"))

    def add(self, row: Row) -> Entry | None:
        """Take a row, or return what is broken about it; its user is known from then on in either case."""
        if row.cells is None:
            return Entry(row.line, "", [], [], row.problem, is_user=False)
        user, item = as_id(row.cells[0]), as_id(row.cells[1])
        if not user:
            return Entry(row.line, "", [], [], "no user id", is_user=False)
        code = self.users.setdefault(user, len(self.users))
        if code == len(self.first_line):
            self.first_line.append(row.line)
        if not item:
            return Entry(row.line, user, [], [], "no item id", is_user=False)
        try:
            time = parse_time(row.cells[2]) if len(row.cells) > 2 else 0.0
        except ValueError:
            problem = f"the time {str(row.cells[2])[:40]!r} is neither a number nor an ISO date"
            return Entry(row.line, user, [], [], problem, is_user=False)
        self.user.append(code)
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.time.append(time)
        return None

    def entries(self) -> Iterator[Entry]:
        """Give the users, each with its items in order of time; rows of equal time stay in the file's order."""
        user, time = np.asarray(self.user, np.int32), np.asarray(self.time, np.float64)
        order = np.lexsort((time, user))
        bounds = np.searchsorted(user[order], np.arange(len(self.users) + 1))
        codes, times = np.asarray(self.item, np.int32)[order], time[order].astype(np.int64)
        names = list(self.items)
        for number, (name, line) in enumerate(zip(self.users, self.first_line, strict=True)):
            start, stop = bounds[number], bounds[number + 1]
            items = [names[code] for code in codes[start:stop].tolist()]
            yield Entry(line, name, items, times[start:stop].tolist(), "" if items else "no usable line")
