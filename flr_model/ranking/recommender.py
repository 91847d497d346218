"""From what the network says of users to ranked items; one path for torch and ONNX, for evaluation and scoring.

Shapes: B users, K factors, L history positions, D width of item vectors, d width of the backbone, M items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ConfigError
from flr_model.ranking.evidence import Evidence, SparseScores
from flr_model.ranking.topk import best_of_all, best_of_candidates, evidence_at

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


NEAR = 30
"""Items that an approximate index is asked for, per place of the ranking."""


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
    """The network behind a recommender: torch (`flr_model.nn.reader`) or ONNX Runtime (`export.runtime`)."""

    def read(self, histories: Ints, vectors: Floats, titles: Sequence[str]) -> UserStates:
        """Read B histories.

        Args:
            histories: (B, L) positions, left-padded with PAD.
            vectors: (M, D) the vectors of the catalogue's items.
            titles: (M,) titles of the catalogue; only the `text` encoding looks at them.
        """

    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of n titles."""


class ItemIndex(Protocol):
    """An approximate index over the vectors of a catalogue (`export.scoring.index`)."""

    def search(self, users: Floats, n: int) -> Ints:
        """Return (B, n) positions of items with a large dot product with each user, PAD where fewer were found."""

    def extended(self, vectors: Floats) -> ItemIndex:
        """Return an index that also holds the vectors of items behind the present ones."""


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
        index: finds near items approximately; None ranks the whole catalogue.
    """

    def __init__(
        self,
        reader: Reader,
        catalog: Catalog,
        vectors: Floats,
        evidence: Evidence,
        *,
        max_history: int,
        index: ItemIndex | None = None,
    ) -> None:
        self.reader = reader
        self.catalog = catalog
        self.vectors = vectors
        self.evidence = evidence
        self.max_history = max_history
        self.index = index
        self._titles: list[str] = catalog.titles.tolist()

    def states(self, rows: HistoryRows) -> UserStates:
        """Run the network on the rows' histories, in as many columns as the longest of them needs."""
        length = int(np.clip(rows.lengths.max(initial=1), 1, self.max_history))
        states = self.reader.read(rows.padded(length), self.vectors, self._titles)
        attention = np.pad(states.attention, ((0, 0), (0, 0), (self.max_history - length, 0)))
        return replace(states, attention=attention)

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
        candidates: Sequence[Ints] | None = None,
    ) -> Ranking:
        """Rank the catalogue for each row and explain the best items.

        Args:
            rows: B histories.
            top_k: items per user.
            allow_seen: keep what the user had among the candidates.
            candidates: per row the positions to choose from, ascending; None means all items (with an index: those that
                it finds near, and those with evidence).
        """
        states, evidence = self.states(rows), self.evidence.sparse(rows)
        users = states.queries.sum(axis=1)
        none = np.zeros(0, np.int64)
        hidden = (none, none) if allow_seen else rows.had()
        if candidates is None and self.index is not None:
            candidates = self._near(users, evidence, hidden[0], top_k)
        if candidates is None:
            items, best = best_of_all(users, self.vectors, evidence, hidden, top_k)
        else:
            items, best = best_of_candidates(users, self.vectors, evidence, hidden, top_k, candidates)
        by_factor = np.matmul(self.vectors[np.maximum(items, 0)], states.queries.transpose(0, 2, 1))
        by_evidence = evidence_at(evidence, items, len(self.vectors))[..., None]
        return Ranking(items, best, np.concatenate([by_factor, by_evidence], axis=2), states.attention)

    def _near(self, users: Floats, evidence: SparseScores, hidden: Ints, top_k: int) -> list[Ints]:
        """Candidates of an approximate index: items near the user's vector, and all that have evidence.

        ``hidden`` has a user's number once for every item that it must not be given.
        """
        assert self.index is not None
        most = int(np.bincount(hidden).max(initial=0))
        near = self.index.search(users, max(NEAR * top_k, top_k + most))
        starts = np.searchsorted(evidence.row, np.arange(len(users) + 1))
        return [
            np.union1d(line[line != PAD], evidence.item[starts[user] : starts[user + 1]])
            for user, line in enumerate(near)
        ]

    def with_index(self, build: Callable[[Floats], ItemIndex]) -> Recommender:
        """Return a recommender that ranks only what an index of its vectors finds, and what has evidence."""
        copied = copy(self)
        copied.index = build(self.vectors)
        return copied

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
        vectors = self.reader.encode_titles(titles)
        return Recommender(
            self.reader,
            self.catalog.extended(item_ids, titles),
            np.concatenate([self.vectors, vectors]),
            self.evidence.extended(len(item_ids)),
            max_history=self.max_history,
            index=None if self.index is None else self.index.extended(vectors),
        )


def candidate_scores(scorer: Scorer, rows: HistoryRows, *, allow_seen: bool) -> Floats:
    """Return (B, M) scores; what the user had, unless allowed, and what a `Lister` does not list have -inf."""
    if isinstance(scorer, Lister):
        return scorer.listed_scores(rows, allow_seen=allow_seen)
    scores = scorer.scores(rows)
    if not allow_seen:
        hide_seen(scores, rows)
    return scores


def hide_seen(scores: npt.NDArray[Any], rows: HistoryRows) -> None:
    """Set the scores of all that each row's user had to -inf, in place."""
    scores[rows.had()] = -np.inf
