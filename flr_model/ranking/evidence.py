"""What was bought together, as each factor counts it: weighed pair counts, looked up by history, without torch.

Where many items were bought with many others, looking for the pairs takes longer than reading all of them: then they
are in a table, with a line for each history item (`fits_table`). The counts are the same.

Shapes: R rows, K factors, M items, P distinct pairs, E pairs met, G buckets of lags, L history positions, N places.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Floats, Ints, ranges, search_ranges
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError
from flr_model.ranking.factor_counts import CountsEverywhere, CountsOfPlaces, FactorCounts

TABLE_SHARE = 4
"""A table of all pairs is read from one met pair in so many on."""

TABLE_CELLS = 1 << 26
"""A table is not larger than this, 256 MiB."""

DENSE_KEYS = 16
"""Up to so many possible keys per value, summing into one array beats sorting."""


def fits_table(n_pairs: int, n_items: int, n_factors: int) -> bool:
    """Say whether counts are read from a table of all pairs: many of them were met, and it is not too large."""
    n_cells = n_items * n_items
    return n_pairs * TABLE_SHARE >= n_cells and n_cells * n_factors <= TABLE_CELLS


@dataclass(frozen=True)
class Evidence:
    """Weighed pair counts in compressed sparse rows, and what each factor makes of their sum over a history.

    c_k(i) = sum_l w_kl n_k(h_l, i); logit = weight_k log(1 + scale_k c_k(i)). The powers of the degrees are in n_k.

    Args:
        indptr: (M + 1,) where each history item's pairs begin.
        neighbour: (P,) items, sorted within a history item.
        value: (P, K) weighed count of each pair for each factor.
        weight: (K,) of the logarithm. scale: (K,) of the sum inside it.
        seen: added to the logits of seen items.
        lag_bounds: (G - 1,) longest lag of each bucket of times but the last.
        degree: (M,) training interactions of each item; None where an earlier version of flr counted.
        unordered: interactions of one moment have no order (`flr prepare --tie-order random`).
    """

    indptr: Ints
    neighbour: Ints
    value: Floats
    weight: Floats
    scale: Floats
    seen: float
    lag_bounds: Ints
    degree: Ints | None = None
    unordered: bool = False

    @property
    def n_items(self) -> int:
        """M."""
        return len(self.indptr) - 1

    def counts(self, rows: HistoryRows, weights: Floats) -> FactorCounts:
        """Count for R rows.

        Args:
            rows: R histories; only the newest L items count.
            weights: (R, K, L) of the history's items, padded on the left.
        """
        recent = rows.truncated(weights.shape[2])
        if fits_table(len(self.neighbour), self.n_items, self.value.shape[1]):
            return CountsEverywhere(self._everywhere(recent, weights))
        row = recent.row_of_item()
        by_item = weights[row, :, recent.slot_of_item(weights.shape[2])].astype(np.float64)  # (S, K)
        start = self.indptr[recent.items]
        length = self.indptr[recent.items + 1] - start
        pair, entry = ranges(start, length), np.repeat(np.arange(len(row)), length)
        key = row[entry] * self.n_items + self.neighbour[pair]
        found, sums = _sums(key, self.value[pair] * by_item[entry], len(rows) * self.n_items)
        logits = self.weight * np.log1p(self.scale * sums)
        return CountsOfPlaces(found // self.n_items, found % self.n_items, logits.astype(np.float32))

    def _everywhere(self, rows: HistoryRows, weights: Floats) -> Floats:
        """Return the (R, K, M) logits of all items, from the table of all pairs."""
        sums = np.zeros((len(rows), self.value.shape[1], self.n_items), np.float32)
        for row, (start, stop) in enumerate(pairwise(rows.offsets)):
            if stop > start:
                own = weights[row, :, None, start - stop :]  # (K, 1, n)
                sums[row] = np.matmul(own, self._table[:, rows.items[start:stop]])[:, 0]
        logits: Floats = np.log1p(np.multiply(sums, self.scale[:, None], out=sums), out=sums)
        logits *= self.weight[:, None]
        return logits

    @cached_property
    def _table(self) -> Floats:
        """(K, M, M) the weighed count of every pair of a history item and another one."""
        table = np.zeros((self.value.shape[1], self.n_items, self.n_items), np.float32)
        source = np.repeat(np.arange(self.n_items), np.diff(self.indptr))
        table[:, source, self.neighbour] = self.value.T
        return table

    def pair_values(self, source: Ints, neighbour: Ints) -> Floats:
        """Return the (n, K) weighed counts of pairs (n,) of a history item and another item; 0 where never seen."""
        start, stop = self.indptr[source], self.indptr[source + 1]
        place = search_ranges(self.neighbour, start, stop, neighbour)
        last = np.minimum(place, max(len(self.neighbour) - 1, 0))
        if not len(self.neighbour):
            return np.zeros((len(source), self.value.shape[1]), np.float32)
        met = (place < stop) & (self.neighbour[last] == neighbour)
        return np.where(met[:, None], self.value[last], np.float32(0))

    def extended(self, n_new: int) -> Evidence:
        """Return the same evidence over a catalogue with ``n_new`` more items, of which nothing was counted."""
        indptr = np.concatenate([self.indptr, np.full(n_new, self.indptr[-1])])
        degree = None if self.degree is None else np.concatenate([self.degree, np.zeros(n_new, np.int64)])
        return replace(self, indptr=indptr, degree=degree)

    def write(self, path: Path) -> None:
        """Write everything as one uncompressed npz without pickled objects."""
        with path.open("wb") as file:
            kept = {field.name: getattr(self, field.name) for field in fields(self)}
            np.savez(file, **{name: value for name, value in kept.items() if value is not None})

    @classmethod
    def read(cls, path: Path) -> Evidence:
        """Read what `write` wrote.

        Raises:
            ArtifactError: if another version of flr wrote it.
        """
        with np.load(path, allow_pickle=False) as arrays:
            if set(arrays) | {"degree", "unordered"} != {f.name for f in fields(cls)}:
                raise ArtifactError(f"{path} was written by another version of flr", hint="train and export again")
            read: dict[str, Any] = {name: array if array.shape else array.item() for name, array in arrays.items()}
            return cls(**read)


def _sums(key: Ints, value: npt.NDArray[np.float64], n_keys: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Sum (E, K) values by key (E,): the keys that occur, ascending, and their (N, K) sums."""
    if n_keys < DENSE_KEYS * len(key):
        found = np.flatnonzero(np.bincount(key, minlength=n_keys)).astype(np.int64)
        return found, np.stack([np.bincount(key, column, n_keys)[found] for column in value.T], axis=1)
    found, which = np.unique(key, return_inverse=True)
    return found, np.stack([np.bincount(which, column, len(found)) for column in value.T], axis=1)
