"""The interactions file: who did something with what, and when.

Shapes: E interactions, U users, I items.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model import columns
from flr_model.errors import DataError, pluralize
from flr_model.files.cells import DOUBTFUL
from flr_model.files.events import Events, Ints
from flr_model.files.header import find_columns, times_elsewhere
from flr_model.files.reading import FLAGS, Reading
from flr_model.files.rows import Rejects
from flr_model.files.tables import Table, open_table
from flr_model.files.times import TimeRule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interactions:
    """Interactions in order of their file, or the other way round where it is newest first; users and items numbered.

    Args:
        table: the file.
        user: (E,) number of the user.
        item: (E,) number of the item.
        time: (E,) microseconds since 1970; all 0 when there are no times.
        user_ids: (U,) external ids.
        item_ids: (I,) external ids.
        rejects: rows that are left out.
        found: name in the file of each column.
        rule: how times are read; None when there are none.
        newest_first: whether the file is.
    """

    table: Table
    user: Ints
    item: Ints
    time: Ints
    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    rejects: Rejects
    found: Mapping[str, str] = field(default_factory=dict)
    rule: TimeRule | None = None
    newest_first: bool = False

    def __len__(self) -> int:
        return len(self.user)

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @property
    def timed(self) -> bool:
        """Whether there are times."""
        return self.rule is not None

    def select(self, keep: npt.NDArray[np.bool_]) -> Interactions:
        """Return the interactions of a mask; numbers and ids stay."""
        return replace(self, user=self.user[keep], item=self.item[keep], time=self.time[keep])


def read_interactions(
    path: Path, reading: Reading, *, elsewhere: tuple[str, ...] = (), strict: bool = False
) -> Interactions:
    """Read users, items and times.

    Args:
        path: delimited text, Parquet, JSON Lines or a RecBole atomic file, plain or gzip; or a folder of parts.
        reading: what is known of the file.
        elsewhere: columns whose given name may be that of another file.
        strict: refuse the file at its first broken row.

    Raises:
        DataError: if the file cannot be read, lacks a column, has ambiguous times, too many broken rows, or one user.
    """
    table = open_table(path, reading)
    times = (columns.TIME,) if reading.time else ()
    found = find_columns(table, (columns.USER, columns.ITEM), times, reading, elsewhere=elsewhere)
    if reading.time and columns.TIME not in found:
        _refuse_untimed(table)
    events, rejects = Events(), Rejects(path)
    for fault in events.read(table, found, reading):
        rejects.add(fault.line, fault.what, fault.cell, broken=fault.broken)
    _refuse_useless(events, rejects, found, path)
    rejects.check(events.rows, strict=strict, hint=way_out(rejects))
    if len(rejects):
        logger.warning("%s: left out: %s", path, rejects.summary())
    _say_doubtful(path, events)
    newest_first = events.newest_first()
    if newest_first:
        logger.info("%s: newest first; rows of one moment are taken in the opposite order of the file", path)
    user, item, time = events.arrays()
    return Interactions(
        table=table,
        user=user,
        item=item,
        time=time,
        user_ids=np.asarray(list(events.users), object),
        item_ids=np.asarray(list(events.items), object),
        rejects=rejects,
        found=found,
        rule=events.rule,
        newest_first=newest_first,
    )


def way_out(rejects: Rejects) -> str:
    """Say what helps against the rejects of a file."""
    reasons = " ".join(what for what, _ in rejects.reasons)
    ways = []
    if "time" in reasons:
        ways.append(
            "times are seconds or milliseconds since 1970, or dates such as 2018-11-01, 2018-11-01T12:30:00Z or "
            "01.11.2018; others are described with --time-format, another column is named with --time-col"
        )
    if "cells instead" in reasons:
        ways.append("quote cells that contain the delimiter, or name it with --delimiter")
    if "quote" in reasons:
        ways.append("close the quotes")
    if "a list" in reasons:
        ways.append(
            "lists of items are given with --train, --valid and --test; another column is named with --item-col"
        )
    return "; ".join(ways) or "repair these rows; check --user-col and --item-col"


def _say_doubtful(path: Path, events: Events) -> None:
    for what, ids, rows in (("user", events.users, events.user), ("item", events.items, events.item)):
        for doubtful in sorted(DOUBTFUL & ids.keys()):
            count = rows.count(ids[doubtful])
            logger.warning(
                "%s: the %s %r of %s counts as one like others; if it stands for none, empty these cells",
                path, what, doubtful, pluralize(count, "row"),
            )  # fmt: skip


def _refuse_untimed(table: Table) -> None:
    near = times_elsewhere(table)
    names = ", ".join(map(repr, table.names[:20]))
    seems = f"; {near!r} looks like times" if near else ""
    raise DataError(
        f"{table.path} has no time column that flr knows{seems}. Its columns are {names} ({table.about})",
        hint=f"name it with {FLAGS[columns.TIME]} {near or 'NAME'}, or say --no-time if the rows stand in order of "
        "time, oldest first",
    )


def _refuse_useless(events: Events, rejects: Rejects, found: Mapping[str, str], path: Path) -> None:
    user, item = found[columns.USER], found[columns.ITEM]
    if not len(events.user):
        raise DataError(
            f"{path}: no row has both a user ({user}) and an item ({item}): {rejects.summary() or 'there are none'}",
            hint=f"check --user-col and --item-col; {way_out(rejects)}",
        )
    if len(events.users) == 1:
        raise DataError(
            f"{path}: one user only in {pluralize(events.rows, 'row')} ({user} is {next(iter(events.users))!r})",
            hint="check --user-col; at least two users are needed to learn from some and test on others",
        )
