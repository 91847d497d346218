"""What the factors of a recommender do: whether they are all used, and whether they differ.

Shapes: R rows, K factors, L history positions, d width of the factor vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.data.histories import HistoryRows
from flr_model.ranking.recommender import Recommender

SAMPLE = 2048
"""Most rows that are read for the diagnostics."""


def factor_diagnostics(recommender: Recommender, rows: HistoryRows, *, batch_size: int = 256) -> dict[str, Any]:
    """Measure the factors on the rows, or on an evenly spaced sample of 2048 of them.

    Returns:
        rows: how many were read.
        gate_entropy: mean entropy of a user's gates over its maximum log K; 1: all factors alike, 0: one factor.
        factor_usage: K mean gates, they sum to 1.
        factor_cosine, attention_cosine: mean cosine over all pairs of factors; None with one factor.
    """
    picked = rows.select(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64))
    gates, factor_cosines, attention_cosines = [], [], []
    for start in range(0, len(picked), batch_size):
        states = recommender.states(picked.select(slice(start, start + batch_size)))
        gates.append(states.gates)
        factor_cosines.append(pairwise_cosine(states.factors))
        attention_cosines.append(pairwise_cosine(states.attention))
    gate = np.concatenate(gates).astype(np.float64)
    several = gate.shape[1] > 1
    return {
        "rows": len(picked),
        "gate_entropy": float(gate_entropy(gate).mean()),
        "factor_usage": [float(share) for share in gate.mean(axis=0)],
        "factor_cosine": float(np.concatenate(factor_cosines).mean()) if several else None,
        "attention_cosine": float(np.concatenate(attention_cosines).mean()) if several else None,
    }


def gate_entropy(gates: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the (R,) entropies of (R, K) gates, divided by log K; 0 with one factor."""
    logs = np.log(gates, out=np.zeros_like(gates, np.float64), where=gates > 0)
    entropy: npt.NDArray[np.float64] = -(gates * logs).sum(axis=1) / max(np.log(gates.shape[1]), 1e-12)
    return entropy


def pairwise_cosine(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return (R,) the mean cosine over the pairs of the K vectors of each row of (R, K, n); NaN with one vector."""
    wide = vectors.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=2, keepdims=True), 1e-12)
    first, second = np.triu_indices(vectors.shape[1], k=1)
    if not len(first):
        return np.full(len(vectors), np.nan)
    cosines: npt.NDArray[np.float64] = (unit @ unit.transpose(0, 2, 1))[:, first, second].mean(axis=1)
    return cosines
