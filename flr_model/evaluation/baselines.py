"""What a language model has to beat: popularity and co-occurrence, fitted on the training rows.

Both follow the `Scorer` protocol of `flr_model.ranking.recommender` and never hold an M x M matrix.

Shapes: B rows, M items, P pairs of items that occur together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.candidates import EVERYTHING, Candidates
from flr_model.ranking.recommender import Scorer

WINDOW = 3
"""History items before the target that count as bought together with it."""

_TIE_BREAK = 1e-3
"""Score of the most popular item in `Cooccurrence`: less than one pair counts in a history of hundreds of items."""


class Baseline(Scorer, Protocol):
    """A scorer that is fitted on training rows alone."""

    @classmethod
    def fit(cls, train: HistoryRows, n_items: int) -> Baseline:
        """Fit on training rows.

        Args:
            train: rows with known targets.
            n_items: M, the size of the catalogue.
        """


@dataclass(frozen=True)
class Popularity:
    """The same ranking for everybody: how often an item is the target of a training row.

    Args:
        counts: (M,).
    """

    counts: Floats

    @classmethod
    def fit(cls, train: HistoryRows, n_items: int) -> Popularity:
        """Count the targets."""
        return cls(np.bincount(train.target[train.target != PAD], minlength=n_items).astype(np.float32))

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M), all rows equal but for what is no candidate."""
        return candidates.mask(np.tile(self.counts, (len(rows), 1)), rows)


@dataclass(frozen=True)
class Cooccurrence:
    """Items bought right after or right before those of the history.

    A training row counts the pairs of its target and each of its last three history items, 1 / distance each, in both
    directions. The score of an item sums its counts with all history items, each divided by how many steps back from
    the newest it lies (1 for the newest); popularity orders the items without any pair.

    Args:
        indptr: (M + 1,) where each item's pairs begin in the two arrays below.
        neighbours: (P,) the other item of each pair.
        counts: (P,) discounted counts.
        popularity: orders equal scores.
    """

    indptr: Ints
    neighbours: Ints
    counts: Floats
    popularity: Popularity

    @classmethod
    def fit(cls, train: HistoryRows, n_items: int) -> Cooccurrence:
        """Count the pairs and the targets."""
        known = train.select(train.target != PAD)
        near = known.truncated(WINDOW)
        target = near.target[near.row_of_item()]
        keys = np.concatenate([near.items * n_items + target, target * n_items + near.items])
        pairs, inverse = np.unique(keys, return_inverse=True)
        counts = np.bincount(inverse, np.tile(1.0 / _distance(near), 2), minlength=len(pairs))
        indptr = np.searchsorted(pairs, np.arange(n_items + 1) * n_items).astype(np.int64)
        return cls(indptr, pairs % n_items, counts.astype(np.float32), Popularity.fit(known, n_items))

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M), -inf for no candidate."""
        n_items = len(self.popularity.counts)
        degree = np.diff(self.indptr)[rows.items]
        first_pair = self.indptr[:-1][rows.items] - (np.cumsum(degree) - degree)
        pair = np.repeat(first_pair, degree) + np.arange(degree.sum())
        cell = np.repeat(rows.row_of_item(), degree) * n_items + self.neighbours[pair]
        weight = self.counts[pair] / np.repeat(_distance(rows), degree)
        summed = np.bincount(cell, weight, minlength=len(rows) * n_items).reshape(len(rows), n_items)
        most = max(float(self.popularity.counts.max(initial=0)), 1.0)
        scores = (summed + self.popularity.counts * (_TIE_BREAK / most)).astype(np.float32)
        return candidates.mask(scores, rows)


def _distance(rows: HistoryRows) -> Ints:
    """(S,) 1 for the newest item of each history, 2 for the one before."""
    distance: Ints = np.repeat(rows.offsets[1:], rows.lengths) - np.arange(len(rows.items))
    return distance


BASELINES: dict[str, type[Baseline]] = {"pop": Popularity, "cooc": Cooccurrence}
"""Those without settings; the others are in `flr_model.evaluation.tuned`."""
