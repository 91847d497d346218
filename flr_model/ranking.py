"""From what the network says of users to ranked items; one path for torch and ONNX, for evaluation and scoring.

Shapes: B users, K factors, L history positions, D width of item vectors, d width of the backbone, M items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ConfigError
from flr_model.evidence import Evidence

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class UserStates:
    """What the network says of B users.

    Args:
        queries: (B, K, D) each factor's gated query; their sum is the user's vector in item space.
        gates: (B, K) weights of the factors, each row sums to 1.
        attention: (B, K, L) of each factor over the history's items, left-padded, each row sums to 1.
        factors: (B, K, d) the factor vectors, for diagnostics.
    """

    queries: Floats
    gates: Floats
    attention: Floats
    factors: Floats


class Reader(Protocol):
    """The network behind a recommender: torch (`flr_model.nn.reader`) or ONNX Runtime (`export.scorer`)."""

    def read(self, histories: Ints, vectors: Floats, titles: Sequence[str]) -> UserStates:
        """Read B histories.

        Args:
            histories: (B, L) positions, left-padded with PAD.
            vectors: (M, D) the vectors of the catalogue's items.
            titles: (M,) titles of the catalogue; only the `text` encoding looks at them.
        """

    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of n titles."""


class Scorer(Protocol):
    """Anything that scores the whole catalogue: the recommender and the baselines."""

    def scores(self, rows: HistoryRows) -> Floats:
        """Return (B, M) scores, higher is better; only the histories of the rows are looked at."""


@runtime_checkable
class Lister(Protocol):
    """A scorer that finds the best candidates without scoring the others."""

    def listed_scores(self, rows: HistoryRows, *, allow_seen: bool) -> Floats:
        """Return (B, M) scores of the best candidates, -inf for all other items."""


@dataclass(frozen=True)
class Ranking:
    """The best items of B users, best first.

    Args:
        items: (B, k) positions; PAD where a user has fewer than k candidates.
        scores: (B, k), -inf at PAD.
        contributions: (B, k, K + 1) each factor's part of the score, then the evidence's; they add up to it.
        attention: (B, K, L) of each factor over the history, left-padded.
    """

    items: Ints
    scores: Floats
    contributions: Floats
    attention: Floats


class Recommender:
    """A network, the vectors of a catalogue and the evidence of its interactions: all that ranking needs.

    Args:
        reader: the network.
        catalog: M items.
        vectors: (M, D) item vectors, on the scale of the dot product.
        evidence: counts of what was bought together.
        max_history: L, the newest items that the network reads.
    """

    def __init__(
        self, reader: Reader, catalog: Catalog, vectors: Floats, evidence: Evidence, *, max_history: int
    ) -> None:
        self.reader = reader
        self.catalog = catalog
        self.vectors = vectors
        self.evidence = evidence
        self.max_history = max_history
        self._titles: list[str] = catalog.titles.tolist()

    def states(self, rows: HistoryRows) -> UserStates:
        """Run the network on the rows' histories."""
        return self.reader.read(rows.padded(self.max_history), self.vectors, self._titles)

    def scores(self, rows: HistoryRows) -> Floats:
        """Return (B, M) scores: one dot product per item plus the evidence."""
        scores: Floats = self.states(rows).queries.sum(axis=1) @ self.vectors.T
        scores += self.evidence.scores(rows)
        return scores

    def recommend(
        self,
        rows: HistoryRows,
        top_k: int,
        *,
        allow_seen: bool = False,
        candidates: Sequence[Ints | None] | None = None,
    ) -> Ranking:
        """Rank the catalogue for each row and explain the best items.

        Args:
            rows: B histories.
            top_k: items per user.
            allow_seen: keep the history's own items among the candidates.
            candidates: per row the positions to choose from; None means all items.
        """
        states = self.states(rows)
        evidence = self.evidence.scores(rows)
        scores = states.queries.sum(axis=1) @ self.vectors.T + evidence
        if not allow_seen:
            hide_seen(scores, rows)
        if candidates is not None:
            _keep_candidates(scores, candidates)
        items = best_items(scores, top_k)
        best = np.take_along_axis(scores, np.maximum(items, 0), axis=1)
        best[items == PAD] = -np.inf
        by_factor = np.einsum("bkd,bid->bik", states.queries, self.vectors[np.maximum(items, 0)])
        by_evidence = np.take_along_axis(evidence, np.maximum(items, 0), axis=1)[..., None]
        return Ranking(items, best, np.concatenate([by_factor, by_evidence], axis=2), states.attention)

    def guided(self, weight: float) -> Recommender:
        """Return a recommender whose search for titles gives the evidence another weight.

        Raises:
            ConfigError: always; scores of items are no search.
        """
        raise ConfigError("--guidance is for runs and bundles of --decoder title")

    def with_items(self, item_ids: Sequence[str], titles: Sequence[str]) -> Recommender:
        """Return a recommender that also knows items never seen in training, from their titles alone."""
        if not len(item_ids):
            return self
        return Recommender(
            self.reader,
            self.catalog.extended(item_ids, titles),
            np.concatenate([self.vectors, self.reader.encode_titles(titles)]),
            self.evidence.extended(len(item_ids)),
            max_history=self.max_history,
        )


def candidate_scores(scorer: Scorer, rows: HistoryRows, *, allow_seen: bool) -> Floats:
    """Return (B, M) scores; items of the own history, unless allowed, and what a `Lister` does not list have -inf."""
    if isinstance(scorer, Lister):
        return scorer.listed_scores(rows, allow_seen=allow_seen)
    scores = scorer.scores(rows)
    if not allow_seen:
        hide_seen(scores, rows)
    return scores


def hide_seen(scores: npt.NDArray[Any], rows: HistoryRows) -> None:
    """Set the scores of each row's own history to -inf, in place."""
    scores[rows.row_of_item(), rows.items] = -np.inf


def best_items(scores: Floats, top_k: int) -> Ints:
    """Return (B, k) positions of the highest scores, best first; equal scores in order of position.

    Items with a score of -inf are no candidates: PAD fills their places.
    """
    top_k = min(top_k, scores.shape[1])
    threshold = np.partition(scores, -top_k, axis=1)[:, -top_k]
    out = np.full((len(scores), top_k), PAD, np.int64)
    for row, (line, least) in enumerate(zip(scores, threshold, strict=True)):
        near = np.flatnonzero((line >= least) & (line > -np.inf))
        best = near[np.argsort(-line[near], kind="stable")][:top_k]
        out[row, : len(best)] = best
    return out


def _keep_candidates(scores: Floats, candidates: Sequence[Ints | None]) -> None:
    for row, allowed in enumerate(candidates):
        if allowed is None:
            continue
        kept = scores[row, allowed].copy()
        scores[row] = -np.inf
        scores[row, allowed] = kept
