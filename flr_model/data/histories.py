"""Rows of histories: what a user interacted with, oldest first, and (where known) what came next.

Shapes: R rows, S the sum of the histories' (or sequences') lengths, B rows of a batch, L positions of a padded history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flr_model import columns
from flr_model.arrays import Ints, offsets_of, ranges

PAD = -1
"""Fills a padded history on the left, and stands for an unknown target."""


@dataclass(frozen=True)
class OlderItems:
    """What users have seen before the items that their rows show: slices of an array that rows share.

    Args:
        items: (N,) positions in the catalogue.
        start: (R,) where each row's slice begins.
        stop: (R,) where it ends.
    """

    items: Ints
    start: Ints
    stop: Ints

    @classmethod
    def empty(cls, n_rows: int) -> OlderItems:
        """Return an empty slice for each row."""
        return cls(*(np.zeros(n, np.int64) for n in (0, n_rows, n_rows)))

    @classmethod
    def concatenate(cls, parts: Sequence[OlderItems]) -> OlderItems:
        """Join the slices of several sets of rows."""
        shifts = np.cumsum([0, *(len(part.items) for part in parts[:-1])])
        return cls(
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.start + shift for part, shift in zip(parts, shifts, strict=True)]),
            np.concatenate([part.stop + shift for part, shift in zip(parts, shifts, strict=True)]),
        )

    def select(self, rows: Ints) -> OlderItems:
        """Return the slices of some rows."""
        return OlderItems(self.items, self.start[rows], self.stop[rows])


@dataclass(frozen=True)
class HistoryRows:
    """Ragged histories in flat arrays.

    Args:
        user_id: (R,) external ids as strings.
        items: (S,) positions in the catalogue, row after row, each row oldest first.
        times: (S,) seconds of each interaction; 0 where no time is known.
        offsets: (R + 1,) row r is ``items[offsets[r]:offsets[r + 1]]``.
        target: (R,) position of the next item; PAD where unknown.
        target_time: (R,) seconds of the target; 0 where unknown.
        earlier: items that the users have seen before the history; None where the history is all.
    """

    user_id: npt.NDArray[Any]
    items: Ints
    times: Ints
    offsets: Ints
    target: Ints
    target_time: Ints
    older: OlderItems | None = None

    def __len__(self) -> int:
        return len(self.user_id)

    @property
    def lengths(self) -> Ints:
        """(R,) items in each history."""
        return np.diff(self.offsets)

    @classmethod
    def from_lists(
        cls,
        histories: Sequence[Sequence[int]],
        *,
        user_id: Sequence[str] | None = None,
        times: Sequence[Sequence[int]] | None = None,
        target: Sequence[int] | None = None,
        target_time: Sequence[int] | None = None,
    ) -> HistoryRows:
        """Build rows from one list per user; what is not given is unknown."""
        n, lengths = len(histories), [len(history) for history in histories]
        flat = np.asarray([item for history in histories for item in history], np.int64)
        return cls(
            user_id=np.asarray(user_id if user_id is not None else [str(r) for r in range(n)], object),
            items=flat,
            times=np.zeros_like(flat) if times is None else np.asarray([t for row in times for t in row], np.int64),
            offsets=offsets_of(lengths),
            target=np.full(n, PAD, np.int64) if target is None else np.asarray(target, np.int64),
            target_time=np.zeros(n, np.int64) if target_time is None else np.asarray(target_time, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[HistoryRows]) -> HistoryRows:
        """Join rows, in the order of the parts."""
        lengths = np.concatenate([part.lengths for part in parts])
        names = ("user_id", "items", "times", "target", "target_time")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        known = any(part.older is not None for part in parts)
        earlier = (
            OlderItems.concatenate([part.older or OlderItems.empty(len(part)) for part in parts]) if known else None
        )
        return cls(**joined, offsets=offsets_of(lengths), older=earlier)

    def select(self, index: npt.NDArray[Any] | slice) -> HistoryRows:
        """Return the rows of an index array, boolean mask or slice, in that order."""
        rows = np.arange(len(self))[index]
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        source = ranges(self.offsets[rows], lengths)
        return HistoryRows(
            self.user_id[rows],
            self.items[source],
            self.times[source],
            offsets,
            self.target[rows],
            self.target_time[rows],
            None if self.older is None else self.older.select(rows),
        )

    def subsample(self, limit: int | None) -> HistoryRows:
        """Return at most ``limit`` rows, evenly spaced; None returns all."""
        if limit is None or limit >= len(self):
            return self
        return self.select(np.linspace(0, len(self) - 1, limit).astype(np.int64))

    def truncated(self, limit: int) -> HistoryRows:
        """Return the rows with at most the ``limit`` newest items of each history."""
        if len(self) == 0 or self.lengths.max(initial=0) <= limit:
            return self
        lengths = np.minimum(self.lengths, limit)
        offsets = offsets_of(lengths)
        source = ranges(self.offsets[1:] - lengths, lengths)
        return replace(self, items=self.items[source], times=self.times[source], offsets=offsets)

    def cut(self, limit: int) -> HistoryRows:
        """Return the rows with at most the ``limit`` newest items of each history; the others become `older`."""
        kept = self.truncated(limit)
        return replace(kept, older=OlderItems(self.items, self.offsets[:-1], self.offsets[1:] - kept.lengths))

    @property
    def whole_lengths(self) -> Ints:
        """(R,) items that each row's user has seen, `older` included."""
        return self.lengths if self.older is None else self.lengths + self.older.stop - self.older.start

    def whole(self) -> HistoryRows:
        """Return the rows with `older` back in their histories, at unknown times."""
        if self.older is None:
            return self
        before = self.older.stop - self.older.start
        offsets = offsets_of(before + self.lengths)
        old = ranges(offsets[:-1], before)
        items, times = np.zeros((2, offsets[-1]), np.int64)
        items[old] = self.older.items[ranges(self.older.start, before)]
        new = ranges(offsets[:-1] + before, self.lengths)
        items[new], times[new] = self.items, self.times
        return replace(self, items=items, times=times, offsets=offsets, older=None)

    def seen(self) -> tuple[Ints, Ints]:
        """Return (H,) rows and (H,) items: all that the rows' users have seen, history and older, in no order."""
        row, item = self.row_of_item(), self.items
        if self.older is None:
            return row, item
        lengths = self.older.stop - self.older.start
        before = self.older.items[ranges(self.older.start, lengths)]
        return np.concatenate([row, np.repeat(np.arange(len(self)), lengths)]), np.concatenate([item, before])

    def target_seen(self) -> npt.NDArray[np.bool_]:
        """(R,) whether the row's user has seen the target before, in the history or older."""
        shown = _occurs(self.items, self.offsets[:-1], self.offsets[1:], self.target)
        if self.older is None:
            return shown
        return shown | _occurs(self.older.items, self.older.start, self.older.stop, self.target)

    def padded(self, length: int) -> Ints:
        """Return (R, length) positions, padded on the left with PAD, the newest items kept."""
        rows = self.truncated(length)
        out = np.full((len(rows), length), PAD, np.int64)
        out[rows.row_of_item(), rows.slot_of_item(length)] = rows.items
        return out

    def row_of_item(self) -> Ints:
        """(S,) the row each flat item belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def slot_of_item(self, length: int) -> Ints:
        """(S,) the column of each flat item in a left-padded matrix of ``length`` columns (histories fit in it)."""
        return np.arange(len(self.items)) - np.repeat(self.offsets[1:], self.lengths) + length

    def write(self, path: Path) -> None:
        """Write the rows as Parquet with list columns."""
        offsets = pa.array(self.offsets, pa.int64())
        table = pa.table(
            {
                columns.USER: pa.array(self.user_id.tolist(), pa.string()),
                columns.HISTORY: pa.LargeListArray.from_arrays(offsets, pa.array(self.items, pa.int64())),
                columns.HISTORY_TIMES: pa.LargeListArray.from_arrays(offsets, pa.array(self.times, pa.int64())),
                columns.TARGET: pa.array(self.target, pa.int64()),
                columns.TIME: pa.array(self.target_time, pa.int64()),
            }
        )
        pq.write_table(table, path)

    @classmethod
    def read(cls, path: Path) -> HistoryRows:
        """Read what `write` wrote."""
        table = pq.read_table(path).combine_chunks()
        lists = table[columns.HISTORY].combine_chunks()
        times = table[columns.HISTORY_TIMES].combine_chunks()
        offsets = np.asarray(lists.offsets, np.int64)
        return cls(
            np.asarray(table[columns.USER].to_pylist(), object),
            np.asarray(lists.flatten(), np.int64),
            np.asarray(times.flatten(), np.int64),
            offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64),
            table[columns.TARGET].to_numpy().astype(np.int64),
            table[columns.TIME].to_numpy().astype(np.int64),
        )


def sequences(rows: HistoryRows) -> tuple[Ints, Ints, Ints, dict[str, int]]:
    """Rebuild the users' sequences from rows that repeat them.

    Where every interaction has its row, a user's sequence is the first history and then every target. Rows that were
    drawn from such a set, or shuffled, show the missing ones in their histories: a row whose history does not end with
    the target of the user's row before adds what of it is not known yet. (Shuffled rows need times, or whole
    histories, to be put in order.)

    Returns:
        (S,) user numbers, items and times, user after user, oldest first; and the number of each user id.
    """
    users = {user: number for number, user in enumerate(dict.fromkeys(rows.user_id.tolist()))}
    of_row = np.asarray([users[user] for user in rows.user_id], np.int64)
    timed = bool(rows.target_time.all())
    in_order = np.lexsort((rows.whole_lengths, rows.target_time, of_row))
    rows, of_row = rows.select(in_order), of_row[in_order]
    newest, newest_time = (array[rows.offsets[2:] - 1] for array in (rows.items, rows.times))
    follows = np.zeros(len(rows), bool)
    follows[1:] = (of_row[1:] == of_row[:-1]) & (newest == rows.target[:-1])
    if timed:
        follows[1:] &= (newest_time == 0) | (newest_time == rows.target_time[:-1])
    shown = rows.select(~follows).whole()
    row = np.flatnonzero(~follows)[shown.row_of_item()]
    order = np.argsort(np.concatenate([row, np.arange(len(rows))]), kind="stable")  # a target behind its history
    user = np.concatenate([of_row[row], of_row])[order]
    item = np.concatenate([shown.items, rows.target])[order]
    time = np.concatenate([shown.times, rows.target_time])[order]
    taken = np.unique(user * (item.max(initial=0) + 1) + item, return_inverse=True)[1]
    moment = np.unique(time, return_inverse=True)[1]
    at_once = _first(taken * (moment.max(initial=0) + 1) + moment)
    # Where a time is unknown, only a target tells that a user took an item a second time.
    new = np.where((time != 0) & timed, at_once, _first(taken) | (order >= len(row)))
    return user[new], item[new], time[new], users


def _occurs(items: Ints, start: Ints, stop: Ints, wanted: Ints) -> npt.NDArray[np.bool_]:
    """(R,) whether ``wanted[r]`` is among ``items[start[r] : stop[r]]``; slices may share long arrays."""
    n = len(items) + 1
    places = np.sort(items * n + np.arange(len(items)))  # of each item together, in order
    found: npt.NDArray[np.bool_] = np.searchsorted(places, wanted * n + stop) > np.searchsorted(
        places, wanted * n + start
    )
    return found


def _first(key: Ints) -> npt.NDArray[np.bool_]:
    """Mark the first place of each key."""
    first = np.zeros(len(key), bool)
    first[np.unique(key, return_index=True)[1]] = True
    return first
