"""The best items of users, exactly: over a catalogue of any size in blocks, or among candidates.

Shapes: B users, D width of item vectors, M items, k places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Floats, Ints
from flr_model.data.histories import PAD
from flr_model.ranking.evidence import SparseScores

BLOCK_SCORES = 1 << 22
"""Scores that are in memory at once, 16 MiB; a larger catalogue goes through in blocks."""


class Best(NamedTuple):
    """The best items: (B, k) positions, best first and PAD where there are no more, and their scores, -inf at PAD."""

    items: Ints
    scores: Floats


def best_of_all(users: Floats, vectors: Floats, evidence: SparseScores, hidden: tuple[Ints, Ints], top_k: int) -> Best:
    """Rank the whole catalogue: the dot product with every vector, plus the evidence.

    Args:
        users: (B, D).
        vectors: (M, D); may lie on disk.
        evidence: of the items where it is not 0.
        hidden: rows and items that are no candidates.
        top_k: k; at most M places are returned.
    """
    top_k = min(top_k, len(vectors))
    size = max(BLOCK_SCORES // max(len(users), 1), top_k)
    best = Best(np.zeros((len(users), 0), np.int64), np.zeros((len(users), 0), np.float32))
    for start in range(0, len(vectors), size):
        scores = users @ vectors[start : start + size].T
        row, item, value = _within(start, scores.shape[1], *evidence)
        scores[row, item] += value
        scores[_within(start, scores.shape[1], *hidden)] = -np.inf
        items = best_items(scores, top_k)
        here = Best(np.where(items == PAD, PAD, items + start), take(scores, items))
        best = here if start == 0 else _better(best, here, top_k)
    return best


def best_of_candidates(
    users: Floats,
    vectors: Floats,
    evidence: SparseScores,
    hidden: tuple[Ints, Ints],
    top_k: int,
    candidates: Sequence[Ints | None],
) -> Best:
    """Rank given candidates, as `best_of_all` would.

    Args:
        users: (B, D).
        vectors: (M, D).
        evidence: of the items where it is not 0.
        hidden: rows and items that are no candidates.
        top_k: k; at most M places are returned.
        candidates: positions for each user, ascending and distinct; None for all.
    """
    top_k = min(top_k, len(vectors))
    best = Best(np.full((len(users), top_k), PAD, np.int64), np.full((len(users), top_k), -np.inf, np.float32))
    of_user = np.searchsorted(evidence.row, np.arange(len(users) + 1))
    hidden_items = hidden[1][np.argsort(hidden[0], kind="stable")]
    hidden_of_user = np.searchsorted(np.sort(hidden[0]), np.arange(len(users) + 1))
    everything = np.arange(len(vectors)) if any(own is None for own in candidates) else None
    for user, mine_or_all in enumerate(candidates):
        own = everything if mine_or_all is None else mine_or_all
        assert own is not None
        mine = slice(of_user[user], of_user[user + 1])
        scores = vectors[own] @ users[user] + _look_up(evidence.item[mine], evidence.value[mine], own)
        scores[np.isin(own, hidden_items[hidden_of_user[user] : hidden_of_user[user + 1]])] = -np.inf
        places = best_items(scores[None], top_k)[0] if len(own) else np.zeros(0, np.int64)
        places = places[places != PAD]
        best.items[user, : len(places)], best.scores[user, : len(places)] = own[places], scores[places]
    return best


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


def evidence_at(evidence: SparseScores, items: Ints, n_items: int) -> Floats:
    """Return the (B, k) evidence of each row's items (B, k), 0 where it has none."""
    wanted = np.arange(len(items))[:, None] * n_items + np.maximum(items, 0)
    return _look_up(evidence.row * n_items + evidence.item, evidence.value, wanted)


def _look_up(keys: Ints, values: Floats, wanted: Ints) -> Floats:
    """Return the values at wanted keys, 0 where there is none; keys are ascending."""
    if not len(keys):
        return np.zeros(wanted.shape, np.float32)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], np.float32(0))


def _within(start: int, size: int, row: Ints, item: Ints, *rest: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Keep what concerns the items of one block, and count them from its start."""
    here = (item >= start) & (item < start + size)
    return row[here], item[here] - start, *(values[here] for values in rest)


def _better(one: Best, other: Best, top_k: int) -> Best:
    """Join two halves of a catalogue; equal scores stay in order of position."""
    items, scores = np.hstack([one.items, other.items]), np.hstack([one.scores, other.scores])
    places = best_items(scores, top_k)
    joined = np.take_along_axis(items, np.maximum(places, 0), axis=1)
    return Best(np.where(places == PAD, PAD, joined), take(scores, places))
