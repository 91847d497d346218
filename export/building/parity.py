"""Whether two networks say the same: their outputs over many shapes, and the rankings that come of them.

Shapes: B users, L history columns, K factors, D width of item vectors, M items, R rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import GateError
from flr_model.evaluation import metrics
from flr_model.progress import SILENT, Progress
from flr_model.ranking.candidates import UNSEEN
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.recommender import Reader, Recommender, UserStates
from flr_model.ranking.topk import best_items

TOP = 10
BATCHES = (1, 3, 17)
MOST_ROWS = 2000
"""Validation rows that are ranked, spread evenly over the split."""

_ROWS_AT_ONCE = 256
_SCORES_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class RankingParity:
    """How a candidate ranks R rows beside a reference.

    Args:
        rows: R.
        max_score_difference: largest absolute difference over all rows and items.
        identical_top10: share of rows with the same items in the same order.
        top10_overlap: mean share of the reference's top 10 that the candidate has too.
        reference: HR@10, NDCG@10 and MRR@10 of the reference. candidate: those of the candidate.
    """

    rows: int
    max_score_difference: float
    identical_top10: float
    top10_overlap: float
    reference: dict[str, float]
    candidate: dict[str, float]

    @classmethod
    def of(cls, best: Sequence[Sequence[Ints]], ranks: Sequence[Sequence[Ints]], worst: float) -> RankingParity:
        """Sum up batches, each with what the reference and what the candidate gave.

        Args:
            best: (B, k) items of both, batch after batch.
            ranks: (B,) of the targets.
            worst: the largest difference of scores.
        """
        tops = [np.concatenate(side) for side in zip(*best, strict=True)]
        figures = [metrics.means(np.concatenate(side), (TOP,)) for side in zip(*ranks, strict=True)]
        return cls(
            rows=len(tops[0]),
            max_score_difference=worst,
            identical_top10=float((tops[0] == tops[1]).all(axis=1).mean()),
            top10_overlap=overlap(tops[0], tops[1]),
            reference=figures[0],
            candidate=figures[1],
        )

    @property
    def ndcg_loss(self) -> float:
        """What the candidate lacks of the reference's NDCG@10, as a share of it; negative when it is better."""
        before, after = self.reference["NDCG@10"], self.candidate["NDCG@10"]
        return (before - after) / before if before > 0 else 0.0


def shape_differences(
    reference: Reader, candidate: Reader, recommender: CatalogRecommender, *, seed: int = 0
) -> dict[str, float]:
    """Read made-up histories of 1, 3 and 17 users and 1, 2 and L items, whole and padded, and titles of odd lengths.

    Args:
        reference: the network to compare with.
        candidate: the other one.
        recommender: catalogue, vectors and the length of histories, L.
        seed: of the made-up histories.

    Returns:
        The largest absolute difference of each output: queries, gates, attention, weights, factors, item_vectors, and
        of the logits of the whole catalogue (the counts, equal on both sides, left out).
    """
    vectors, titles = recommender.vectors, recommender.catalog.texts.tolist()
    worst = {field.name: 0.0 for field in fields(UserStates)} | {"logits": 0.0}
    n_lags, rng = len(recommender.evidence.lag_bounds) + 1, np.random.default_rng(seed)
    for histories in made_up_histories(len(titles), recommender.max_history, n_lags, rng):
        one, other = reference.read(histories, vectors, titles), candidate.read(histories, vectors, titles)
        for name in worst.keys() - {"logits"}:
            worst[name] = max(worst[name], largest_difference(getattr(one, name), getattr(other, name)))
        logits = one.queries @ vectors.T, other.queries @ vectors.T
        worst["logits"] = max(worst["logits"], largest_difference(*logits))
    odd = odd_titles(titles)
    worst["item_vectors"] = largest_difference(reference.encode_titles(odd), candidate.encode_titles(odd))
    return worst


def compare_rankings(
    reference: Recommender, candidate: Recommender, rows: HistoryRows, *, progress: Progress = SILENT
) -> RankingParity:
    """Rank the catalogue for R rows with two recommenders; scores are compared where both have one.

    Args:
        reference: the one to compare with.
        candidate: the other one.
        rows: R rows with targets.
        progress: counts rows.
    """
    size = int(np.clip(_SCORES_AT_ONCE // len(reference.catalog), 1, _ROWS_AT_ONCE))
    worst, best, ranks = 0.0, [], []
    with progress.task(len(rows), "validation rows") as task:
        for start in range(0, len(rows), size):
            batch = rows.select(slice(start, start + size))
            scores = [recommender.scores(batch, UNSEEN) for recommender in (reference, candidate)]
            worst = max(worst, _difference(*scores))
            best.append([best_items(one, TOP) for one in scores])
            ranks.append([metrics.target_ranks(one, batch.target) for one in scores])
            task.advance(len(batch))
    return RankingParity.of(best, ranks, worst)


def _difference(one: Floats, other: Floats) -> float:
    """Largest difference of scores that both sides have."""
    both = np.isfinite(one) & np.isfinite(other)
    return largest_difference(one[both], other[both])


def check_parity(differences: dict[str, float], ranking: RankingParity | None, tolerance: float) -> None:
    """Refuse an export that computes something else than the run.

    Raises:
        GateError: if any difference is above the tolerance or is not a number.
    """
    found = dict(differences)
    if ranking is not None:
        found["scores of validation rows"] = ranking.max_score_difference
    above = {name: value for name, value in found.items() if not value <= tolerance}
    if above:
        named = ", ".join(f"{name} by {value:.2e}" for name, value in above.items())
        raise GateError(
            f"ONNX fp32 differs from torch beyond the tolerance {tolerance:g}: {named}",
            hint="report it with the backbone's name and the versions of `flr doctor`, or raise --tolerance",
        )


def validation_sample(rows: HistoryRows) -> HistoryRows:
    """Return at most `MOST_ROWS` of the rows that have a target and a history, spread evenly."""
    usable = np.flatnonzero((rows.target != PAD) & (rows.lengths > 0))
    chosen = np.linspace(0, len(usable) - 1, min(len(usable), MOST_ROWS)).astype(np.int64)
    return rows.select(usable[chosen])


def odd_titles(titles: list[str]) -> list[str]:
    """Return titles of all sorts: some of the catalogue's, empty, one letter, longer than is read."""
    step = max(1, len(titles) // 40)
    return ["", "a", " ".join(titles[:40]), *titles[::step][:40]]


def overlap(one: Ints, other: Ints) -> float:
    """Return the mean share of each row of ``one`` (R, k) that is anywhere in the same row of ``other``.

    >>> overlap(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 5]]))
    0.75
    """
    return float((one[:, :, None] == other[:, None, :]).any(axis=2).mean())


def largest_difference(one: Floats, other: Floats) -> float:
    """Return the largest absolute difference; infinite when the shapes differ, NaN when a number is missing."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max(initial=0.0))


def made_up_histories(
    n_items: int, max_history: int, n_lags: int, rng: np.random.Generator
) -> Iterator[PaddedHistories]:
    """Give histories of any items and lags: per shape one whole batch, and one whose rows have 1, 2, .. L items."""
    for n in BATCHES:
        for length in sorted({1, min(2, max_history), max_history}):
            whole = rng.integers(0, n_items, (n, length))
            padding: Any = np.arange(length) < length - 1 - np.arange(n)[:, None] % length
            lags = rng.integers(0, n_lags, whole.shape)
            yield PaddedHistories(whole, lags)
            if padding.any():
                yield PaddedHistories(np.where(padding, PAD, whole), np.where(padding, 0, lags))
