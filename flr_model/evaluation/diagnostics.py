"""What the factors of a recommender do: whether they are all used, whether they differ, and for whom.

Shapes: R rows, K factors, L history positions, d width of the factor vectors, M items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Floats
from flr_model.data.histories import PAD, HistoryRows
from flr_model.evaluation import metrics
from flr_model.ranking.candidates import UNSEEN
from flr_model.ranking.recommender import Recommender
from flr_model.ranking.topk import best_items

SAMPLE = 2048
"""Most rows that are read for the diagnostics."""

TOP = 10
SAME_PLACE, SAME_GATES = 0.95, 0.01
"""Where place explains more of the attention, or gates vary less, factors are the same for everybody."""

Doubles = npt.NDArray[np.float64]


def factor_diagnostics(recommender: Recommender, rows: HistoryRows, *, batch_size: int = 256) -> dict[str, Any]:
    """Measure the factors on the rows, or on an evenly spaced sample of 2048 of them.

    Returns:
        rows: how many were read.
        gate_entropy: mean entropy of a user's gates over its maximum log K; 1: all factors alike, 0: one factor.
        factor_usage: K mean gates, they sum to 1.
        gate_spread: standard deviation of a factor's gate over users, mean over factors.
        attention_by_place: share of the attention's variance that the place in the history explains, mean over factors.
        factor_cosine, attention_cosine: mean cosine over all pairs of factors; None with one factor.
        responsibilities: K mean shares of the factors in the targets' probabilities; None where factors rank nothing.
        factor_ndcg: NDCG@10 of each factor alone; best_factor_ndcg: of each row's best one, by hindsight; likewise.
        top_overlap: mean share of a factor's top 10 that another one has too; likewise, and None with one factor.
        verdict: one sentence.
    """
    picked = rows.select(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64))
    states = [
        recommender.states(picked.select(slice(start, start + batch_size)))
        for start in range(0, len(picked), batch_size)
    ]
    gates = np.concatenate([part.gates for part in states]).astype(np.float64)
    attention = np.concatenate([part.attention for part in states])
    several = gates.shape[1] > 1
    found: dict[str, Any] = {
        "rows": len(picked),
        "gate_entropy": float(gate_entropy(gates).mean()),
        "factor_usage": gates.mean(axis=0).tolist(),
        "gate_spread": float(gates.std(axis=0).mean()),
        "attention_by_place": explained_by_place(attention, np.minimum(picked.lengths, attention.shape[2])),
        "factor_cosine": _mean_cosine([part.factors for part in states]) if several else None,
        "attention_cosine": _mean_cosine([attention]) if several else None,
        **_rankings(recommender, picked, batch_size),
    }
    return {**found, "verdict": verdict(found)}


def _rankings(recommender: Recommender, rows: HistoryRows, batch_size: int) -> dict[str, Any]:
    """What each factor ranks by itself."""
    ranks, overlaps, shares = [], [], []
    for start in range(0, len(rows), batch_size):
        batch = rows.select(slice(start, start + batch_size))
        scores = recommender.factor_scores(batch)  # (B, K, M)
        if scores is None:
            return dict.fromkeys(("responsibilities", "factor_ndcg", "best_factor_ndcg", "top_overlap"))
        known = np.maximum(batch.target, 0)
        joint = np.exp(scores[np.arange(len(batch)), :, known])
        shares.append((joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-38))[batch.target != PAD])
        by_factor = [UNSEEN.mask(scores[:, k], batch) for k in range(scores.shape[1])]
        ranks.append(np.stack([metrics.target_ranks(one, batch.target) for one in by_factor], axis=1))
        overlaps.append(top_overlap([best_items(one, TOP) for one in by_factor]))
    gains = np.stack([metrics.ndcg(column, TOP) for column in np.concatenate(ranks).T], axis=1)
    return {
        "responsibilities": np.concatenate(shares).mean(axis=0).tolist(),
        "factor_ndcg": gains.mean(axis=0).tolist(),
        "best_factor_ndcg": float(gains.max(axis=1).mean()),
        "top_overlap": float(np.concatenate(overlaps).mean()) if gains.shape[1] > 1 else None,
    }


def verdict(found: dict[str, Any]) -> str:
    """Say in one sentence whether the factors differ between users."""
    n_factors = len(found["factor_usage"])
    if n_factors == 1:
        return "one factor: there is nothing to tell apart"
    same = []
    if found["attention_by_place"] > SAME_PLACE:
        same.append(f"{100 * found['attention_by_place']:.0f} % of what they look at follows from the place alone")
    if found["gate_spread"] < SAME_GATES:
        same.append(f"their gates vary by only {found['gate_spread']:.3f} between users")
    if same:
        return f"the {n_factors} factors are the same for everybody: {' and '.join(same)}"
    return f"the {n_factors} factors differ between users"


def explained_by_place(attention: Floats, lengths: npt.NDArray[Any]) -> float:
    """Return the share of the variance of attention that length and place explain, mean over factors.

    Attention to a history of one item says nothing and is left out; 1 where nothing varies.

    Args:
        attention: (R, K, L), left-padded.
        lengths: (R,) items of the histories.
    """
    length = attention.shape[2]
    age = length - 1 - np.arange(length)
    read = (age < lengths[:, None]) & (lengths[:, None] > 1)  # (R, L)
    cell = (lengths[:, None] * length + age)[read]
    shares = []
    for values in attention.transpose(1, 0, 2):
        value = values[read].astype(np.float64)
        if not len(value) or value.var() < 1e-12:
            shares.append(1.0)
            continue
        count = np.maximum(np.bincount(cell), 1)
        residual = value - (np.bincount(cell, value) / count)[cell]
        shares.append(1 - residual.var() / value.var())
    return float(np.mean(shares))


def top_overlap(best: list[npt.NDArray[np.int64]]) -> Doubles:
    """Return (R,) the mean share, over pairs of lists (R, k), of one list's items that the other has too."""
    pairs = [(one, other) for n, one in enumerate(best) for other in best[n + 1 :]]
    if not pairs:
        return np.full(len(best[0]), np.nan)
    shared = [((one[:, :, None] == other[:, None, :]) & (one[:, :, None] != PAD)).any(axis=2) for one, other in pairs]
    overlap: Doubles = np.mean([both.mean(axis=1) for both in shared], axis=0)
    return overlap


def gate_entropy(gates: npt.NDArray[Any]) -> Doubles:
    """Return the (R,) entropies of (R, K) gates, divided by log K; 0 with one factor."""
    logs = np.log(gates, out=np.zeros_like(gates, np.float64), where=gates > 0)
    entropy: Doubles = -(gates * logs).sum(axis=1) / max(np.log(gates.shape[1]), 1e-12)
    return entropy


def pairwise_cosine(vectors: npt.NDArray[Any]) -> Doubles:
    """Return (R,) the mean cosine over the pairs of the K vectors of each row of (R, K, n); NaN with one vector."""
    wide = vectors.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=2, keepdims=True), 1e-12)
    first, second = np.triu_indices(vectors.shape[1], k=1)
    if not len(first):
        return np.full(len(vectors), np.nan)
    cosines: Doubles = (unit @ unit.transpose(0, 2, 1))[:, first, second].mean(axis=1)
    return cosines


def _mean_cosine(parts: list[Floats]) -> float:
    return float(np.concatenate([pairwise_cosine(part) for part in parts]).mean())
