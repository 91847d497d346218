"""The recommender that scores items: a network, the vectors of a catalogue, and the evidence of its interactions.

Shapes: B users, K factors, L history positions, D width of item vectors, M items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.evidence import Evidence, SparseScores
from flr_model.ranking.recommender import Ranking, Reader, UserStates, padded_states
from flr_model.ranking.topk import best_of_all, best_of_candidates, evidence_at

NEAR = 30
"""Items that an approximate index is asked for, per place of the ranking."""


class ItemIndex(Protocol):
    """An approximate index over the vectors of a catalogue (`export.scoring.index`)."""

    def search(self, users: Floats, n: int) -> Ints:
        """Return (B, n) positions of items with a large dot product with each user, PAD where fewer were found."""

    def extended(self, vectors: Floats) -> ItemIndex:
        """Return an index that also holds the vectors of items behind the present ones."""


class CatalogRecommender:
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
        return padded_states(self.reader, rows, self.vectors, self._titles, self.max_history)

    @property
    def n_factors(self) -> int:
        """K, as the network has it."""
        return int(self.states(HistoryRows.from_lists([[0]])).gates.shape[1])

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M) scores: one dot product per item plus the evidence; -inf for no candidate."""
        scores: Floats = self.states(rows).queries.sum(axis=1) @ self.vectors.T
        scores += self.evidence.scores(rows)
        return candidates.mask(scores, rows)

    def recommend(self, rows: HistoryRows, top_k: int, candidates: Candidates = UNSEEN) -> Ranking:
        """Rank the candidates of each row and explain the best items.

        Args:
            rows: B histories.
            top_k: items per user.
            candidates: of each row; with an index, all means those that it finds near, and those with evidence.
        """
        states, evidence = self.states(rows), self.evidence.sparse(rows)
        users = states.queries.sum(axis=1)
        hidden, allowed = candidates.hidden(rows), candidates.allowed
        if allowed is None and self.index is not None:
            allowed = self._near(users, evidence, hidden[0], top_k)
        if allowed is None:
            items, best = best_of_all(users, self.vectors, evidence, hidden, top_k)
        else:
            items, best = best_of_candidates(users, self.vectors, evidence, hidden, top_k, allowed)
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

    def with_items(self, item_ids: Sequence[str], titles: Sequence[str]) -> CatalogRecommender:
        """Return a recommender that also knows items never seen in training, from their titles alone."""
        if not len(item_ids):
            return self
        vectors = self.reader.encode_titles(titles)
        return CatalogRecommender(
            self.reader,
            self.catalog.extended(item_ids, titles),
            np.concatenate([self.vectors, vectors]),
            self.evidence.extended(len(item_ids)),
            max_history=self.max_history,
            index=None if self.index is None else self.index.extended(vectors),
        )
