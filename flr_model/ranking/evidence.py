"""The score of what was bought together: weighed pair counts, one number a pair, looked up by history.

Shapes: R rows, M items, P distinct pairs, G buckets of lags, L history positions, N places of a sparse matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Floats, Ints, ranges
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError
from flr_model.ranking.lags import ages, history_lags

DENSE_KEYS = 16
"""Up to so many possible keys per value, summing into one array beats sorting."""


class SparseScores(NamedTuple):
    """Scores of some items of a batch of rows, each place once, in order of row and item; (N,) each."""

    row: Ints
    item: Ints
    value: Floats


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
