"""Ranking metrics as pure functions of ranks, with their bootstrap intervals.

Every row has one relevant item, its target. A rank is 0-based; `MISS` is beyond every cut-off. The mean
of a metric is over all rows given: misses count as 0 and no row is left out.

Shapes: B rows of a batch, M candidates, R rows, C metrics, U distinct lines of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MISS = np.iinfo(np.int64).max
"""The rank of a target that is no candidate."""

CUTOFFS = (1, 5, 10, 20)
CONFIDENCE = 0.95
_CHUNK = 4_000_000
"""Cells of one block of bootstrap draws."""


def target_ranks(scores: npt.NDArray[Any], targets: Ints) -> Ints:
    """Rank each row's target among all candidates, ties counted against it.

    Args:
        scores: (B, M), higher is better; -inf is no candidate, NaN counts against the target.
        targets: (B,) columns of the targets.

    Returns:
        (B,) how many other candidates score at least as much; `MISS` if the target's own score is -inf or NaN.

    The target ties with one item in the first row, is the best in the second and is no candidate in the third:

    >>> scores = np.array([[0.3, 0.9, 0.3, 0.1], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, -np.inf]])
    >>> target_ranks(scores, np.array([0, 3, 3])).tolist() == [2, 0, MISS]
    True
    """
    own = scores[np.arange(len(scores)), targets]
    below = (scores < own[:, None]).sum(axis=1)
    ranks: Ints = scores.shape[1] - 1 - below.astype(np.int64)
    ranks[~(own > -np.inf)] = MISS
    return ranks


def hit_rate(ranks: Ints, k: int) -> Doubles:
    """Return (R,) 1 where the target is among the first k, else 0.

    >>> hit_rate(np.array([0, 1, 9, 10]), 10).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    return (ranks < k).astype(np.float64)


def ndcg(ranks: Ints, k: int) -> Doubles:
    """Return (R,) 1 / log2(rank + 2) where the target is among the first k, else 0; the ideal gain is 1.

    ====  ====================
    rank  gain
    ====  ====================
    0     1 / log2(2) = 1
    2     1 / log2(4) = 0.5
    6     1 / log2(8) = 0.333
    ====  ====================

    >>> ndcg(np.array([0, 2, 6, 6]), 7).round(3).tolist()
    [1.0, 0.5, 0.333, 0.333]
    >>> ndcg(np.array([6]), 5).tolist()
    [0.0]
    """
    return np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0)


def mrr(ranks: Ints, k: int) -> Doubles:
    """Return (R,) 1 / (rank + 1) where the target is among the first k, else 0.

    >>> mrr(np.array([0, 1, 4, 5]), 5).tolist()
    [1.0, 0.5, 0.2, 0.0]
    """
    return np.where(ranks < k, 1.0 / (ranks + 1.0), 0.0)


METRICS: dict[str, Callable[[Ints, int], Doubles]] = {"HR": hit_rate, "NDCG": ndcg, "MRR": mrr}


def per_row(ranks: Ints, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, Doubles]:
    """Return every metric at every cut-off as (R,) values, named "HR@10" and so on.

    NDCG@1 and MRR@1 are HR@1, and are left out.

    >>> {name: values.tolist() for name, values in per_row(np.array([0, 1]), (1, 2)).items()}
    {'HR@1': [1.0, 0.0], 'HR@2': [1.0, 1.0], 'NDCG@2': [1.0, 0.6309297535714575], 'MRR@2': [1.0, 0.5]}
    """
    return {
        f"{name}@{k}": metric(ranks, k) for name, metric in METRICS.items() for k in cutoffs if k > 1 or name == "HR"
    }


def means(ranks: Ints, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Return the mean over the rows of every metric at every cut-off; NaN when there is no row.

    >>> means(np.array([0, 1, 2, 9]), (2,))
    {'HR@2': 0.5, 'NDCG@2': 0.4077324383928644, 'MRR@2': 0.375}
    """
    return {
        name: float(values.mean()) if len(values) else float("nan") for name, values in per_row(ranks, cutoffs).items()
    }


def intervals(ranks: Ints, n: int, seed: int, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile bootstrap interval of each mean, rows resampled together for all metrics.

    Args:
        ranks: (R,).
        n: resamples; 0 returns no intervals.
        seed: of the resampling.
        cutoffs: cut-offs of the metrics.
    """
    if n == 0 or len(ranks) == 0:
        return {}
    values = per_row(ranks, cutoffs)
    low, high = _percentile_interval(np.stack(list(values.values()), axis=1), n, seed)
    return {name: (float(low[c]), float(high[c])) for c, name in enumerate(values)}


def paired_difference(a: npt.ArrayLike, b: npt.ArrayLike, n: int, seed: int) -> tuple[float, float, float]:
    """Compare two rankings of the same rows: the mean of a - b and its 95 % bootstrap interval.

    Args:
        a: (R,) values of a metric.
        b: (R,) values of the same metric and rows.
        n: resamples of the rows; with 0 the interval is NaN.
        seed: of the resampling.

    Returns:
        mean, low, high. The difference is significant at the 95 % level when the interval leaves out 0.

    Raises:
        ValueError: if the lengths differ or there is no row.

    >>> paired_difference([1.0, 1.0, 0.5], [0.5, 0.5, 0.0], n=100, seed=0)
    (0.5, 0.5, 0.5)
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"cannot pair {first.shape} with {second.shape} values")
    difference = first - second
    if n == 0:
        return float(difference.mean()), float("nan"), float("nan")
    low, high = _percentile_interval(difference[:, None], n, seed)
    return float(difference.mean()), float(low[0]), float(high[0])


def relative_difference(a: npt.ArrayLike, b: npt.ArrayLike, n: int, seed: int) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of mean(a) / mean(b) - 1, paired as in `paired_difference`.

    None without resamples, or if one of them has a mean of b of 0.

    >>> relative_difference([0.5, 1.0, 1.0], [0.25, 0.5, 0.5], n=100, seed=0)
    (1.0, 1.0)
    """
    if n == 0:
        return None
    values = np.stack([np.asarray(a, np.float64), np.asarray(b, np.float64)], axis=1)
    means = np.concatenate(list(_resampled_means(values, n, np.random.default_rng(seed))))
    if not (means[:, 1] > 0).all():
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means[:, 0] / means[:, 1] - 1, (tail, 1 - tail))
    return float(low), float(high)


def _percentile_interval(values: Doubles, n: int, seed: int) -> tuple[Doubles, Doubles]:
    """Return (C,) bounds of the means of (R, C) values."""
    resampled = np.concatenate(list(_resampled_means(values, n, np.random.default_rng(seed))))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail), axis=0)
    return low, high


def _resampled_means(values: Doubles, n: int, rng: np.random.Generator) -> Iterator[Doubles]:
    """Yield the means of n resamples of the rows, in blocks of shape (rows of the block, C).

    Drawing R rows with replacement is drawing how often each distinct row occurs: metrics of ranks take few values, so
    a multinomial over the U distinct rows replaces R indices per resample.
    """
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    block = max(1, _CHUNK // len(distinct))
    for start in range(0, n, block):
        drawn = rng.multinomial(len(values), counts / len(values), size=min(block, n - start))
        yield drawn @ distinct / len(values)
