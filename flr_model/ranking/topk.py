"""The highest scores of each row, exactly, and joined over blocks of columns.

Shapes: B rows, M columns, k places.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Floats, Ints
from flr_model.data.histories import PAD


class Best(NamedTuple):
    """The best items: (B, k) positions, best first and PAD where there are no more, and their scores, -inf at PAD."""

    items: Ints
    scores: Floats

    @classmethod
    def nothing(cls, rows: int, top_k: int) -> Best:
        """Return places that are all empty."""
        return cls(np.full((rows, top_k), PAD, np.int64), np.full((rows, top_k), -np.inf, np.float32))


def best_items(scores: Floats, top_k: int) -> Ints:
    """Return (B, k) positions of the highest scores, best first; equal scores in order of position.

    Items with a score of -inf are no candidates: PAD fills their places.
    """
    top_k = min(top_k, scores.shape[1])
    threshold = np.partition(scores, -top_k, axis=1)[:, -top_k]
    out = np.full((len(scores), top_k), PAD, np.int64)
    for row, (line, least) in enumerate(zip(scores, threshold, strict=True)):
        near = np.flatnonzero(line >= least)
        best = near[np.argsort(-line[near], kind="stable")][:top_k]
        out[row, : len(best)] = best
    out[take(scores, out) == -np.inf] = PAD
    return out


def take(scores: npt.NDArray[Any], items: Ints) -> npt.NDArray[Any]:
    """Return the (B, k) scores at positions; -inf at PAD."""
    found = np.take_along_axis(scores, np.maximum(items, 0), axis=1)
    found[items == PAD] = -np.inf
    return found


def better(one: Best, other: Best, top_k: int) -> Best:
    """Join two halves of a catalogue; equal scores stay in order of position."""
    items, scores = np.hstack([one.items, other.items]), np.hstack([one.scores, other.scores])
    places = best_items(scores, top_k)
    joined = np.take_along_axis(items, np.maximum(places, 0), axis=1)
    return Best(np.where(places == PAD, PAD, joined), take(scores, places))
