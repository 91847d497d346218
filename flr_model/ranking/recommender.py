"""What a recommender is: the protocols that evaluation, export and scoring rely on, and what they exchange.

The siblings are `flr_model.ranking.catalog.CatalogRecommender`, which scores items, and
`flr_model.titles.recommender.TitleRecommender`, which writes titles; behind each is a network of torch or ONNX Runtime.

Shapes: B users, K factors, L history positions, D width of item vectors, d width of the backbone, M items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.data.catalog import TITLES_ALONE, Catalog, MoreOfItems
from flr_model.data.histories import HistoryRows
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.mixture import Mixture


@dataclass(frozen=True)
class UserStates:
    """What the network says of B users.

    Args:
        queries: (B, K, D) each factor's query in item space.
        gates: (B, K) weights of the factors, each row sums to 1.
        attention: (B, K, L) of each factor over the history's items, left-padded, each row sums to 1.
        weights: (B, K, L) the same before it is normalised over the history: what its items weigh in the counts.
        factors: (B, K, d) the factor vectors, for diagnostics.
    """

    queries: Floats
    gates: Floats
    attention: Floats
    weights: Floats
    factors: Floats


class Reader(Protocol):
    """The network behind a recommender: torch (`flr_model.nn.reader`) or ONNX Runtime (`flr_export.runtime`)."""

    def read(self, histories: PaddedHistories, vectors: Floats, titles: Sequence[str]) -> UserStates:
        """Read B histories.

        Args:
            histories: of L columns.
            vectors: (M, D) the vectors of the catalogue's items.
            titles: (M,) titles of the catalogue; only the `text` encoding looks at them.
        """

    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of n titles."""


class Scorer(Protocol):
    """Anything that scores the whole catalogue: recommenders and baselines."""

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M) scores, higher is better, -inf for no candidate; only the rows' histories are looked at."""


@dataclass(frozen=True)
class Ranking:
    """The best items of B users, best first.

    Args:
        items: (B, k) positions; PAD where a user has fewer than k candidates.
        scores: (B, k) logarithms of probabilities, -inf at PAD.
        shares: (B, k, K) each factor's share of the probability; they add up to 1.
        counted: (B, k) the share of the probability that pair counts gave, not titles.
        because: (B, k) position of the history item that carries the recommendation most; PAD where there is none.
    """

    items: Ints
    scores: Floats
    shares: Floats
    counted: Floats
    because: Ints


class Recommender(Scorer, Protocol):
    """Ranks the items of a catalogue for users and explains the ranking."""

    @property
    def catalog(self) -> Catalog:
        """The M items that can be recommended."""

    @property
    def vectors(self) -> Floats:
        """(M, D) vectors of the items."""

    @property
    def evidence(self) -> Evidence:
        """What was bought together."""

    @property
    def max_history(self) -> int:
        """L, the newest items of a history that the network reads."""

    @property
    def n_factors(self) -> int:
        """K."""

    @property
    def scores_items(self) -> bool:
        """Whether every item has a score; one that writes titles finds some of them."""

    def states(self, rows: HistoryRows) -> UserStates:
        """Run the network on the rows' histories."""

    def factor_scores(self, rows: HistoryRows) -> Floats | None:
        """Return (B, K, M) logarithms of g_k P_k(i), of the factors' prediction; None where it counts for nothing."""

    def mixture(self, rows: HistoryRows, states: UserStates) -> Mixture | None:
        """Return what the factors say of the catalogue; None where that counts for nothing."""

    def recommend(self, rows: HistoryRows, top_k: int, candidates: Candidates = UNSEEN) -> Ranking:
        """Rank the candidates of each row and explain the best ``top_k`` of them."""

    def with_items(
        self, item_ids: Sequence[str], titles: Sequence[str], more: MoreOfItems = TITLES_ALONE
    ) -> Recommender:
        """Return a recommender that also knows items never seen in training, from their titles alone."""


def columns_for(rows: HistoryRows, max_history: int) -> int:
    """Return how many columns the longest of the histories needs, at most ``max_history``."""
    return int(np.clip(rows.lengths.max(initial=1), 1, max_history))


def widened(states: UserStates, length: int) -> UserStates:
    """Return the states with attention and weights of ``length`` columns."""
    wider = ((0, 0), (0, 0), (length - states.attention.shape[2], 0))
    return replace(states, attention=np.pad(states.attention, wider), weights=np.pad(states.weights, wider))
