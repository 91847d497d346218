"""What was bought together, as each factor counts it: weighed pair counts, looked up by history, without torch.

Shapes: R rows, K factors, M items, P distinct pairs, E pairs met, G buckets of lags, L history positions, N places.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Floats, Ints, ranges, search_ranges
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError

DENSE_KEYS = 16
"""Up to so many possible keys per value, summing into one array beats sorting."""


class FactorCounts(NamedTuple):
    """What K factors counted of some items of a batch of rows, as logits; 0 elsewhere.

    row, item: (N,) each place once, in order of row and item. value: (N, K).
    """

    row: Ints
    item: Ints
    value: Floats

    def at(self, row: Ints, item: Ints, n_items: int) -> Floats:
        """Return the (n, K) logits of places (n,)."""
        if not len(self.row):
            return np.zeros((len(row), self.value.shape[1]), np.float32)
        keys, wanted = self.row * n_items + self.item, row * n_items + item
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[place] == wanted)[:, None], self.value[place], np.float32(0))


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
    """

    indptr: Ints
    neighbour: Ints
    value: Floats
    weight: Floats
    scale: Floats
    seen: float
    lag_bounds: Ints
    degree: Ints | None = None

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
        row = recent.row_of_item()
        by_item = weights[row, :, recent.slot_of_item(weights.shape[2])].astype(np.float64)  # (S, K)
        start = self.indptr[recent.items]
        length = self.indptr[recent.items + 1] - start
        pair, entry = ranges(start, length), np.repeat(np.arange(len(row)), length)
        key = row[entry] * self.n_items + self.neighbour[pair]
        found, sums = _sums(key, self.value[pair] * by_item[entry], len(rows) * self.n_items)
        logits = self.weight * np.log1p(self.scale * sums)
        return FactorCounts(found // self.n_items, found % self.n_items, logits.astype(np.float32))

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
            np.savez(file, **{name: value for name, value in vars(self).items() if value is not None})

    @classmethod
    def read(cls, path: Path) -> Evidence:
        """Read what `write` wrote.

        Raises:
            ArtifactError: if another version of flr wrote it.
        """
        with np.load(path, allow_pickle=False) as arrays:
            if set(arrays) | {"degree"} != {f.name for f in fields(cls)}:
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
