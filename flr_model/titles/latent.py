"""What a title is written after: the item vector that the factors expect (docs/method.md, "Title decoder").

e = unit(sum_i w_i e_i), w = softmax_i(2 log P(i)) over the ten best items i of the mixture

Shapes: B users, k best items, M items, D width of item vectors.
"""

from __future__ import annotations

import numpy as np

from flr_model.arrays import Floats
from flr_model.data.histories import PAD
from flr_model.ranking.topk import Best

EXPECTED = 10
"""Items whose vectors are averaged; the mean of more of them is like no item."""

SHARPNESS = 2.0
"""Power of the probabilities."""


def expected_weights(best: Best) -> Floats:
    """Return (B, k) the weight of each of the best items, 0 at PAD; rows sum to 1, or are zero."""
    scores = np.where(best.items == PAD, -np.inf, SHARPNESS * best.scores.astype(np.float64))
    largest = scores.max(axis=1, keepdims=True, initial=-np.inf)
    powers = np.exp(scores - np.where(np.isneginf(largest), 0, largest))
    weights: Floats = (powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return weights


def expected_vectors(best: Best, vectors: Floats) -> Floats:
    """Return (B, D) the mean of the best items' vectors (M, D), of any length: only its direction is read."""
    weights = expected_weights(best)
    mean: Floats = np.einsum("bk,bkd->bd", weights, vectors[np.maximum(best.items, 0)].astype(np.float32))
    return mean
