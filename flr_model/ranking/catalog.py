"""The recommender that scores items: a network, the vectors of a catalogue, and the evidence of its interactions.

Shapes: B users, K factors, L history positions, D width of item vectors, M items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from flr_model.arrays import Bools, Floats, Ints
from flr_model.data.catalog import TITLES_ALONE, Catalog, MoreOfItems
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.mixture import Mixture
from flr_model.ranking.parts import Parts
from flr_model.ranking.recommender import Ranking, Reader, UserStates, columns_for, widened
from flr_model.ranking.topk import Best

NEAR = 30
"""Items that an approximate index is asked for, per place of the ranking."""


def index_serves(offered: Bools | None, top_k: int) -> bool:
    """Say whether an index finds enough: it is asked for as many items more as are not offered.

    Where that would more than double the search, the whole catalogue is ranked.
    """
    return offered is None or int((~offered).sum()) <= NEAR * top_k


class ItemIndex(Protocol):
    """An approximate index over the vectors of a catalogue (`flr_export.scoring.index`)."""

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
        self._titles: list[str] = catalog.texts.tolist()

    @property
    def scores_items(self) -> bool:
        """Return True."""
        return True

    def states(self, rows: HistoryRows) -> UserStates:
        """Run the network on the rows' histories, in as many columns as the longest of them needs."""
        histories = PaddedHistories.of(rows, columns_for(rows, self.max_history), self.evidence.lag_bounds)
        return widened(self.reader.read(histories, self.vectors, self._titles), self.max_history)

    @property
    def n_factors(self) -> int:
        """K, as the network has it."""
        return int(self.states(HistoryRows.from_lists([[0]])).gates.shape[1])

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M) logarithms of the items' probabilities; -inf for no candidate."""
        return candidates.mask(self.mixture(rows, self.states(rows)).log_probabilities(), rows)

    def factor_scores(self, rows: HistoryRows) -> Floats:
        """Return (B, K, M) logarithms of g_k P_k(i), whose sum over factors is the prediction."""
        return self.mixture(rows, self.states(rows)).factor_log_probabilities()

    def mixture(self, rows: HistoryRows, states: UserStates) -> Mixture:
        """Return what the factors say of the catalogue, the pair counts included."""
        row, item = rows.seen()
        seen = np.unique(row * len(self.vectors) + item)
        return Mixture(
            states.queries,
            states.gates,
            self.vectors,
            self.evidence.counts(rows, states.weights),
            (seen // len(self.vectors), seen % len(self.vectors)),
            self.evidence.seen,
        )

    def recommend(self, rows: HistoryRows, top_k: int, candidates: Candidates = UNSEEN) -> Ranking:
        """Rank the candidates of each row and explain the best items.

        Args:
            rows: B histories.
            top_k: items per user.
            candidates: of each row; with an index that serves, all means those that it finds near, and those with
                counts.
        """
        states = self.states(rows)
        mixture = self.mixture(rows, states)
        best = self.best(mixture, rows, top_k, candidates)
        shares = mixture.shares(best.items)
        parts = Parts.of(self.evidence, mixture, states, rows, best.items)
        because = parts.because(parts.carried(shares))
        return Ranking(best.items, best.scores, shares, parts.counted(shares), because)

    def best(self, mixture: Mixture, rows: HistoryRows, top_k: int, candidates: Candidates) -> Best:
        """Rank the candidates of B rows by the mixture of their factors."""
        hidden, allowed = candidates.hidden(rows), candidates.allowed
        offered, boost = candidates.offered, candidates.boost
        if allowed is not None:
            return mixture.best_of(hidden, top_k, allowed, offered, boost)
        if self.index is not None and boost is None and index_serves(offered, top_k):
            near = self._near(mixture, hidden[0], top_k, 0 if offered is None else int((~offered).sum()))
            return mixture.best_of(hidden, top_k, near, offered, estimate=True)
        return mixture.best(hidden, top_k, offered, boost)

    def _near(self, mixture: Mixture, hidden: Ints, top_k: int, not_offered: int) -> list[Ints]:
        """Candidates of an approximate index: items near any factor's query, and all that were counted.

        ``hidden`` has a user's number once for every item that it must not be given, and nobody is given another
        ``not_offered`` ones.
        """
        assert self.index is not None
        n, k, width = mixture.queries.shape
        most = int(np.bincount(hidden).max(initial=0))
        wanted = max(NEAR * top_k, top_k + most) + not_offered
        near = self.index.search(mixture.queries.reshape(n * k, width), wanted).reshape(n, -1)
        counted = mixture.counts.items(n)
        return [np.union1d(line[line != PAD], items) for line, items in zip(near, counted, strict=True)]

    def with_reader(self, reader: Reader) -> CatalogRecommender:
        """Return the same recommender with another network."""
        return CatalogRecommender(
            reader, self.catalog, self.vectors, self.evidence, max_history=self.max_history, index=self.index
        )

    def with_items(
        self, item_ids: Sequence[str], titles: Sequence[str], more: MoreOfItems = TITLES_ALONE
    ) -> CatalogRecommender:
        """Return a recommender that also knows items never seen in training, from their titles alone."""
        if not len(item_ids):
            return self
        catalog = self.catalog.extended(item_ids, titles, more)
        texts = catalog.texts[len(self.catalog) :].tolist()
        vectors = self.reader.encode_titles(texts)
        return CatalogRecommender(
            self.reader,
            catalog,
            np.concatenate([self.vectors, vectors]),
            self.evidence.extended(len(item_ids)),
            max_history=self.max_history,
            index=None if self.index is None else self.index.extended(vectors),
        )
