"""What was bought together: sparse pair counts, and the score they give.

Counting is the cheapest strong signal a recommender has, and exact for a catalogue of any size. `PairEvents` holds
every counted event with its circumstances, which training weighs; `Evidence` holds the weighed result, one number a
pair, which scoring looks up. While training, the events of the row's own user are taken out, because a model that sees
the pair it has to predict learns to trust a leak.

Shapes: R rows, M items, P distinct pairs, V events, E looked-up pairs, G buckets of lags, L history positions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flr_model.data.histories import HistoryRows, ranges, sequences
from flr_model.errors import ArtifactError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
"""Numbers of events, pairs and channels, which are kept small: there may be many."""

BUCKETS = (1, 2, 3, 4, 5, 7, 10, 15, 25, 50)
"""Largest distance of each bucket of distances; interactions of a user further apart than the last are not a pair."""

MAX_EVENTS = 100_000_000
"""The window of distances ends before there are more; an event takes 12 bytes, and up to 50 while they are counted."""

LAGS = 6
"""Most buckets of the time between two interactions, beside that of none."""

LAGS_PER_BUCKET = 50_000
"""With so many lags in the training rows there is a second bucket, with as many again a third, and so on."""

DENSE_KEYS = 16
"""Up to so many possible keys per value, summing into one array beats sorting."""


def channel(direction: npt.NDArray[Any], distance: npt.NDArray[Any], lag: npt.NDArray[Any], n_lags: int) -> Ints:
    """Number the circumstances of events: direction 0 or 1, distance 1..50, bucket 0..n_lags - 1 of the lag."""
    numbers: Ints = ((direction * len(BUCKETS) + np.searchsorted(BUCKETS, distance)) * n_lags + lag).astype(np.int64)
    return numbers


class Lookup(NamedTuple):
    """The pairs that a batch of histories meets, one entry per (history item, neighbour).

    row: (E,) row of the batch. age: (E,) steps back of the history item, 0 for the newest.
    lag: (E,) bucket of its time before the newest. pair: (E,) index of the pair.
    """

    row: Ints
    age: Ints
    lag: Ints
    pair: Ints


class SparseScores(NamedTuple):
    """Scores of some items of a batch of rows, each place once, in order of row and item; (N,) each."""

    row: Ints
    item: Ints
    value: Floats


@dataclass(frozen=True)
class PairEvents:
    """Every co-occurrence within fifty steps of a user's sequence, in both directions.

    Args:
        indptr: (M + 1,) where each history item's pairs begin.
        source: (P,) history item of each pair. neighbour: (P,) the other item, sorted within a history item.
        event_pair: (V,) index of each event's pair, sorted. event_channel: (V,) its circumstances.
        by_user: (V,) events in order of their users. first_of_user: (U + 1,) where each user's begin in it.
        degree: (M,) interactions of each item.
        lag_bounds: (G - 1,) longest lag of each bucket but the last. users: external id to number.
    """

    indptr: Ints
    source: Ints
    neighbour: Ints
    event_pair: Numbers
    event_channel: Numbers
    by_user: Numbers
    first_of_user: Ints
    degree: Ints
    lag_bounds: Ints
    users: dict[str, int]

    @classmethod
    def count(cls, rows: HistoryRows, n_items: int, bounds: Ints | None = None) -> PairEvents:
        """Count the pairs of training rows, every real interaction once however many rows show it.

        Args:
            rows: of training.
            n_items: M.
            bounds: the lag bounds that weights were learned for; None finds those of the rows.
        """
        user, item, time, users = sequences(rows)
        bounds = lag_bounds(user, time) if bounds is None else bounds
        starts = _starts(user, item)
        n_events = 2 * sum(len(first) for first in starts)
        key, channels, who = np.empty(n_events, np.int64), np.empty(n_events, np.int32), np.empty(n_events, np.int32)
        begin = 0
        for distance, first in enumerate(starts, 1):
            second = first + distance
            lag = lag_buckets(time[first], time[second], bounds)
            gap = np.full(len(first), distance)
            for direction, (a, b) in enumerate(((first, second), (second, first))):
                part = slice(begin, begin + len(first))
                key[part] = item[a] * n_items + item[b]
                channels[part] = channel(np.full(len(first), direction), gap, lag, len(bounds) + 1)
                who[part] = user[first]
                begin = part.stop
        del starts  # memory is short here: below, too, everything goes when it has been used
        order = np.argsort(key, kind="stable").astype(np.int32)
        channels, who = channels[order], who[order]
        key = key[order]
        del order
        new = np.ones(n_events, bool)
        new[1:] = key[1:] != key[:-1]
        pairs, event_pair = key[new], np.cumsum(new, dtype=np.int32) - 1
        del key
        by_user = np.argsort(who, kind="stable").astype(np.int32)
        return cls(
            indptr=np.searchsorted(pairs, np.arange(n_items + 1) * n_items).astype(np.int64),
            source=pairs // n_items,
            neighbour=pairs % n_items,
            event_pair=event_pair,
            event_channel=channels,
            by_user=by_user,
            first_of_user=np.concatenate([[0], np.cumsum(np.bincount(who, minlength=len(users)))]),
            degree=np.bincount(item, minlength=n_items).astype(np.int64),
            lag_bounds=bounds,
            users=users,
        )

    def own(self, rows: HistoryRows) -> tuple[Lookup, Ints]:
        """Look up the events of each row's own user that start at an item of its history, and their channels."""
        begin = self.first_of_user
        number = np.asarray([self.users.get(user, -1) for user in rows.user_id], np.int64)
        known = number >= 0
        start, stop = begin[np.where(known, number, 0)], begin[np.where(known, number + 1, 0)]
        length = np.where(known, stop - start, 0)
        event = self.by_user[ranges(start, length)]
        row = np.repeat(np.arange(len(rows)), length)
        # match (row, source item) of the events with (row, history item) of the rows, every combination
        n_items = len(self.degree)
        theirs = row * n_items + self.source[self.event_pair[event]]
        ours = rows.row_of_item() * n_items + rows.items
        by_key = np.argsort(ours, kind="stable")
        left, right = (np.searchsorted(ours[by_key], theirs, side=side) for side in ("left", "right"))
        slot = by_key[ranges(left, right - left)]
        event = np.repeat(event, right - left)
        lags = history_lags(rows, self.lag_bounds)
        pair = self.event_pair[event].astype(np.int64)
        found = Lookup(rows.row_of_item()[slot], ages(rows)[slot], lags[slot], pair)
        return found, self.event_channel[event].astype(np.int64)


_NONE = np.zeros(0, np.int64)


def _starts(user: Ints, item: Ints) -> list[Ints]:
    """Return where pairs begin in (S,) interactions, for each distance of the window; a pair is two events."""
    starts: list[Ints] = []
    n_events = 0
    for distance in range(1, min(BUCKETS[-1], len(item) - 1) + 1):
        first = np.flatnonzero((user[:-distance] == user[distance:]) & (item[:-distance] != item[distance:]))
        n_events += 2 * len(first)
        if n_events > MAX_EVENTS and starts:
            break
        starts.append(first)
    return starts


@dataclass(frozen=True)
class Evidence:
    """Weighed pair counts in compressed sparse rows, and how a history sums them.

    Args:
        indptr: (M + 1,) where each history item's pairs begin.
        neighbour: (P,) items, sorted within a history item.
        value: (P,) weighed count of each pair.
        kernel: (L,) weight of a history item by its age, newest first; older items count nothing.
        lag: (G,) weight of a history item by the bucket of its time before the newest.
        lag_bounds: (G - 1,) longest lag of each bucket but the last.
        scale: of the sum inside the logarithm. weight: of the logarithm.
        seen: added to the score of what the user had.
    """

    indptr: Ints
    neighbour: Ints
    value: Floats
    kernel: Floats
    lag: Floats
    lag_bounds: Ints
    scale: float
    weight: float
    seen: float

    @property
    def n_items(self) -> int:
        """M."""
        return len(self.indptr) - 1

    def sparse(self, rows: HistoryRows) -> SparseScores:
        """Score what the histories meet: ``weight * log1p(scale * weighed counts)``, plus ``seen`` for what users had.

        Every other item's evidence is 0.
        """
        recent = rows.newest(len(self.kernel))
        weight = self.kernel[ages(recent)] * self.lag[history_lags(recent, self.lag_bounds)]
        start = self.indptr[recent.items]
        length = self.indptr[recent.items + 1] - start
        pair = ranges(start, length)
        met = np.repeat(recent.row_of_item() * self.n_items, length) + self.neighbour[pair]
        met, counts = _sums(met, self.value[pair] * np.repeat(weight, length), len(rows) * self.n_items)
        row, item = rows.had()
        own = np.unique(row * self.n_items + item)
        values = [self.weight * np.log1p(self.scale * counts), np.full(len(own), self.seen)]
        key, value = _sums(np.concatenate([met, own]), np.concatenate(values), len(rows) * self.n_items)
        return SparseScores(key // self.n_items, key % self.n_items, value.astype(np.float32))

    def scores(self, rows: HistoryRows) -> Floats:
        """Return (R, M): `sparse`, with zeros everywhere else."""
        out = np.zeros((len(rows), self.n_items), np.float32)
        found = self.sparse(rows)
        out[found.row, found.item] = found.value
        return out

    def extended(self, n_new: int) -> Evidence:
        """Return the same evidence over a catalogue with ``n_new`` more items, of which nothing was counted."""
        return replace(self, indptr=np.concatenate([self.indptr, np.full(n_new, self.indptr[-1])]))

    def write(self, path: Path) -> None:
        """Write everything as one uncompressed npz without pickled objects."""
        with path.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def read(cls, path: Path) -> Evidence:
        """Read what `write` wrote.

        Raises:
            ArtifactError: if another version of flr wrote it.
        """
        with np.load(path, allow_pickle=False) as arrays:
            if set(arrays) != {f.name for f in fields(cls)}:
                raise ArtifactError(f"{path} was written by another version of flr", hint="train and export again")
            read: dict[str, Any] = {name: array if array.shape else array.item() for name, array in arrays.items()}
            return cls(**read)


def _sums(key: Ints, value: npt.NDArray[Any], n_keys: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Sum values by key: the keys below ``n_keys`` whose sum is not zero, or that occur, ascending, and their sums."""
    if n_keys < DENSE_KEYS * len(key):
        sums = np.bincount(key, value, n_keys)
        found = np.flatnonzero(sums).astype(np.int64)
        return found, sums[found].astype(np.float64)
    found, which = np.unique(key, return_inverse=True)
    return found, np.bincount(which, value, len(found)).astype(np.float64)


def ages(rows: HistoryRows) -> Ints:
    """(S,) steps back from the newest item of each history, 0 for the newest."""
    return np.repeat(rows.offsets[1:], rows.lengths) - 1 - np.arange(len(rows.items))


def lag_bounds(user: Ints, time: Ints) -> Ints:
    """Return the (G - 1,) longest lag of each bucket but the last: none, then equal shares, more where lags are many.

    Shared out are the times between a user's interactions at the distances of `BUCKETS`.

    Args:
        user: (S,) users of interactions, user after user.
        time: (S,) their times, oldest first, 0 where unknown.
    """
    lags = [_NONE]
    for distance in BUCKETS:
        first, second = time[:-distance], time[distance:]
        lags.append((second - first)[(user[:-distance] == user[distance:]) & (first != 0) & (second > first)])
    positive = np.concatenate(lags)
    shares = min(LAGS, 1 + len(positive) // LAGS_PER_BUCKET)
    bounds = [np.quantile(positive, share / shares, method="lower") for share in range(1, shares)]
    return np.asarray([0, *bounds], np.int64)


def lag_buckets(a: Ints, b: Ints, bounds: Ints) -> Ints:
    """Number the time between interactions; where one is unknown, 0, it is in the middle.

    >>> lag_buckets(np.array([7, 7, 7, 0]), np.array([7, 8, 99, 5]), np.array([0, 10, 20])).tolist()
    [0, 1, 3, 2]
    """
    known = (a != 0) & (b != 0)
    return np.where(known, np.searchsorted(bounds, abs(a - b)), (len(bounds) + 1) // 2).astype(np.int64)


def history_lags(rows: HistoryRows, bounds: Ints) -> Ints:
    """(S,) bucket of each history item's time before its history's newest item, whose own is the first."""
    newest = np.repeat(rows.offsets[1:] - 1, rows.lengths)
    lags = lag_buckets(rows.times, rows.times[newest], bounds)
    lags[newest] = 0
    return lags
