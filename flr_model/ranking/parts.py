"""What a recommendation is made of: inside each factor, titles and counts, and the history items behind them.

A factor's weight of an item is exp(title logit) (1 + scale c)^weight, so exactly 1 - exp(-count logit) of it comes of
the counts. The counts are a sum over the history; what titles give is shared out by attention and similarity.

Shapes: B users, k recommended items, K factors, L history positions, D width of item vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.mixture import Mixture
from flr_model.ranking.recommender import UserStates

LEAST = np.float32(1e-12)


@dataclass(frozen=True)
class Parts:
    """The parts of recommended items.

    Args:
        by_counts: (B, k, K) the part of each factor's weight of an item that its counts gave.
        of_history: (B, k, K, L) the share of each history item in it, left-padded; rows sum to 1, or are zero.
        items: (B, k) the recommended items, PAD where there is none.
        history: (B, L) the items of the histories, left-padded with PAD.
    """

    by_counts: Floats
    of_history: Floats
    items: Ints
    history: Ints

    @classmethod
    def of(cls, evidence: Evidence, mixture: Mixture, states: UserStates, rows: HistoryRows, items: Ints) -> Parts:
        """Take the recommendations of B users apart.

        Args:
            evidence: pair counts.
            mixture: what the factors say.
            states: of the users, as wide as a history is read.
            rows: their histories.
            items: (B, k) recommended to them.
        """
        n, k = items.shape
        length = states.attention.shape[2]
        known = np.maximum(items, 0)
        user = np.repeat(np.arange(n), k)
        logits = mixture.counts.at(user, known.ravel(), len(mixture.vectors)).reshape(n, k, -1)
        by_counts = -np.expm1(-np.maximum(logits, 0))
        history = rows.padded(length)  # (B, L)
        pair = np.broadcast_arrays(np.maximum(history, 0)[:, None, :], known[:, :, None])
        values = evidence.pair_values(*(part.ravel() for part in pair)).reshape(n, k, length, -1)
        counts = values * states.weights.transpose(0, 2, 1)[:, None]  # (B, k, L, K)
        vectors = mixture.vectors
        alike = np.matmul(vectors[known], vectors[np.maximum(history, 0)].transpose(0, 2, 1))  # (B, k, L)
        titles = np.maximum(alike, 0)[..., None] * states.attention.transpose(0, 2, 1)[:, None]
        read = (history != PAD)[:, None, :, None]
        of_history = (
            _shared(counts * read) * by_counts[:, :, None] + _shared(titles * read) * (1 - by_counts)[:, :, None]
        )
        return cls(by_counts, of_history.transpose(0, 1, 3, 2), items, history)

    def counted(self, shares: Floats) -> Floats:
        """Return (B, k) the share of each item's probability that counts gave, for factors' shares (B, k, K)."""
        counted: Floats = (shares * self.by_counts).sum(axis=2)
        return counted

    def carried(self, shares: Floats) -> Floats:
        """Return (B, k, L) the share of each history item in each item's probability, for factors' shares (B, k, K)."""
        carried: Floats = np.matmul(shares[:, :, None], self.of_history)[:, :, 0]
        return carried

    def because(self, carried: Floats) -> Ints:
        """Return (B, k) position of the history item that carries an item most, the newest of equals; PAD for none.

        Args:
            carried: (B, k, L) share of each history item in each item.
        """
        newest_first = carried[:, :, ::-1]
        carrier = np.take_along_axis(self.history[:, ::-1], newest_first.argmax(axis=2), axis=1)
        none = (self.items == PAD) | (newest_first.max(axis=2, initial=0) <= 0)
        return np.where(none, PAD, carrier)


def _shared(parts: Floats) -> Floats:
    """Divide (B, k, L, K) parts by their sum over the history."""
    shared: Floats = parts / np.maximum(parts.sum(axis=2, keepdims=True), LEAST)
    return shared
