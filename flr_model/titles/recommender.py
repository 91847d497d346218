"""The `title` decoder as a recommender: what the search finds, as ranked items with their explanation.

Shapes: B users, M items, T distinct titles, K factors, k recommendations, n pairs of a user and a node or title.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.config import ModelConfig
from flr_model.data.catalog import TITLES_ALONE, Catalog, MoreOfItems
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.lags import PaddedHistories, RecencyWeights
from flr_model.ranking.recommender import Ranking, Reader, UserStates, columns_for, widened
from flr_model.titles.beams import Doubles, Found, by_user
from flr_model.titles.eligible import Eligible
from flr_model.titles.search import TitleReader, TitleSearch
from flr_model.titles.tree import TitleTree

USERS_AT_ONCE = 64
"""Users whose keys and values are in memory at once."""

LISTED = 20
"""Items of a list that is evaluated; no metric looks further."""


class Writer(Reader, TitleReader, Protocol):
    """A network that reads histories and writes titles."""

    def tokenize(self, titles: Sequence[str]) -> list[Ints]:
        """Return the tokens of titles, without the end token."""


class TitleRecommender:
    """Recommends what the language model would write next.

    Args:
        reader: the network.
        catalog: M items.
        vectors: (M, D) item vectors, of the `items` encoding.
        evidence: guides the search, by the weight ``model.title.guidance``; of one factor.
        recency: what history items weigh in it.
        tree: of the catalogue's titles.
        model: settings of the search.
    """

    def __init__(
        self,
        reader: Writer,
        catalog: Catalog,
        vectors: Floats,
        evidence: Evidence,
        recency: RecencyWeights,
        tree: TitleTree,
        model: ModelConfig,
    ) -> None:
        self.reader = reader
        self.catalog = catalog
        self.vectors = vectors
        self.evidence = evidence
        self.recency = recency
        self.tree = tree
        self.model = model
        self.max_history = model.max_history
        self.n_factors = model.chosen_factors
        self._titles: list[str] = catalog.texts.tolist()

    @property
    def scores_items(self) -> bool:
        """Return False."""
        return False

    def states(self, rows: HistoryRows) -> UserStates:
        """Run the network on the rows' histories, in as many columns as the longest of them needs."""
        histories = PaddedHistories.of(rows, columns_for(rows, self.max_history), self.evidence.lag_bounds)
        return widened(self.reader.read(histories, self.vectors, self._titles), self.max_history)

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M) scores of the best `LISTED` candidates; all others have -inf."""
        best = self.recommend(rows, LISTED, candidates)
        out = np.full((len(rows), len(self.catalog)), -np.inf, np.float32)
        row, place = np.nonzero(best.items != PAD)
        out[row, best.items[row, place]] = best.scores[row, place]
        return out

    def factor_scores(self, rows: HistoryRows) -> None:
        """Return None: the factors share one thought, and none ranks alone."""

    def mixture(self, rows: HistoryRows, states: UserStates) -> None:
        """Return None, likewise."""

    def recommend(self, rows: HistoryRows, top_k: int, candidates: Candidates = UNSEEN) -> Ranking:
        """Search for the best titles of each row and explain them.

        A score is a log-likelihood, of the title and of the item among those of the same title. Its parts are the
        gates' shares of what the language model gives, and the guide's.
        """
        order = np.argsort(rows.lengths, kind="stable")  # prompts of similar length together
        parts = []
        for start in range(0, len(rows), USERS_AT_ONCE):
            which = order[start : start + USERS_AT_ONCE]
            parts.append(self._recommend(rows.select(which), min(top_k, len(self.catalog)), candidates.select(which)))
        back = np.argsort(order)
        return Ranking(*(np.concatenate([getattr(part, f.name) for part in parts])[back] for f in fields(Ranking)))

    def with_reader(self, reader: Writer) -> TitleRecommender:
        """Return the same recommender with another network."""
        return TitleRecommender(reader, self.catalog, self.vectors, self.evidence, self.recency, self.tree, self.model)

    def with_items(
        self, item_ids: Sequence[str], titles: Sequence[str], more: MoreOfItems = TITLES_ALONE
    ) -> TitleRecommender:
        """Return a recommender that can also write the titles of items never seen in training."""
        if not len(item_ids):
            return self
        catalog = self.catalog.extended(item_ids, titles, more)
        texts = catalog.texts[len(self.catalog) :].tolist()
        return TitleRecommender(
            self.reader,
            catalog,
            np.concatenate([self.vectors, self.reader.encode_titles(texts)]),
            self.evidence.extended(len(item_ids)),
            self.recency,
            self.tree.with_items(self.reader.tokenize(texts)),
            self.model,
        )

    def _recommend(self, rows: HistoryRows, top_k: int, candidates: Candidates) -> Ranking:
        histories = PaddedHistories.of(rows, columns_for(rows, self.max_history), self.evidence.lag_bounds)
        prompted = self.reader.prompt(histories, self.vectors, self._titles)
        eligible = Eligible.of(self.tree, rows, candidates)
        guide = Guidance.of(self.tree, self._counts(rows)) if self.model.title.guidance else None
        shares = Shares(self.tree, guide, self.model.title.guidance, eligible)
        found = TitleSearch(
            self.tree,
            self.reader,
            prompted,
            width=max(self.model.title.beams, top_k),
            guide=guide,
            guidance=self.model.title.guidance,
            eligible=eligible,
            bonus=shares.best,
        ).run()
        return _ranking(found, shares, prompted.users, histories.items, top_k)

    def _counts(self, rows: HistoryRows) -> Floats:
        """(B, M) scores of items by pair counts alone."""
        histories = PaddedHistories.of(rows, self.max_history, self.evidence.lag_bounds)
        counts = self.evidence.counts(rows, self.recency.of(histories))
        scores = np.zeros((len(rows), len(self.catalog)), np.float32)
        scores[counts.row, counts.item] = counts.value[:, 0]
        row, item = np.unique(np.stack(rows.seen()), axis=1)
        scores[row, item] += np.float32(self.evidence.seen)
        return scores


@dataclass(frozen=True)
class Guidance:
    """A text-free model's probabilities, summed over the titles under a node (D3's guidance).

    Args:
        tree: of the titles.
        below: (B, T + 1) probability of all titles before each one.
        items: (B, M) log-probabilities of the items.
    """

    tree: TitleTree
    below: Doubles
    items: Doubles

    @classmethod
    def of(cls, tree: TitleTree, scores: Floats) -> Guidance:
        """Make probabilities of (B, M) scores of items."""
        logs = scores.astype(np.float64)
        logs -= logs.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        by_title = np.add.reduceat(np.exp(logs)[:, tree.items], tree.first_item[:-1], axis=1)
        return cls(tree, np.concatenate([np.zeros((len(scores), 1)), np.cumsum(by_title, axis=1)], axis=1), logs)

    def log_mass(self, user: Ints, node: Ints) -> Doubles:
        """Return (n,) the logarithm of the probability of all titles under a node."""
        mass = self.below[user, self.tree.last_title[node]] - self.below[user, self.tree.first_title[node]]
        logs: Doubles = np.log(np.maximum(mass, 1e-30))
        return logs


@dataclass(frozen=True)
class Shares:
    """How a title's probability is shared by its items: by popularity, and by the guide.

    Args:
        tree: of the titles.
        guide: None without.
        guidance: its weight.
        eligible: items that a user can be given.
    """

    tree: TitleTree
    guide: Guidance | None
    guidance: float
    eligible: Eligible

    def items(self, user: Ints, title: Ints) -> tuple[Ints, Ints, Doubles, Doubles]:
        """Return the eligible items of pairs of a user and a title (n,).

        Returns:
            (P,) pairs, (P,) items, and the logarithms of their shares: by popularity, and by the guide, each weighed.
        """
        pair, item = self.tree.items_of(title)
        left = self.eligible.items(user[pair], item)
        pair, item = pair[left], item[left]
        guided = np.zeros(len(item))
        if self.guide is not None:
            whole = self.guide.log_mass(user, self.tree.leaf[title].astype(np.int64))
            guided = self.guidance * (self.guide.items[user[pair], item] - whole[pair])
        return pair, item, (1 - self.guidance) * self.tree.log_share[item], guided

    def best(self, user: Ints, title: Ints) -> Doubles:
        """Return (n,) the largest share among the eligible items of each title, as a logarithm."""
        pair, _, by_popularity, guided = self.items(user, title)
        out = np.full(len(title), -np.inf)
        np.maximum.at(out, pair, by_popularity + guided)
        return out


def _ranking(found: Found, parts: Shares, users: UserStates, history: Ints, top_k: int) -> Ranking:
    """Turn titles into each user's ``top_k`` items with their explanation."""
    pair, item, by_popularity, by_guide = parts.items(found.user, found.title)
    language, guided = found.language[pair] + by_popularity, found.guided[pair] + by_guide
    order, place = by_user(found.user[pair], language + guided, top_k)
    user, item, language, guided = found.user[pair][order], item[order], language[order], guided[order]
    shape = (len(users.gates), top_k)
    items, scores = np.full(shape, PAD, np.int64), np.full(shape, -np.inf, np.float32)
    items[user, place], scores[user, place] = item, language + guided
    shares, counted = np.zeros((*shape, users.gates.shape[1]), np.float32), np.zeros(shape, np.float32)
    shares[user, place] = users.gates[user]
    counted[user, place] = guided / np.minimum(language + guided, -1e-9)
    looked_at = np.matmul(users.gates[:, None], users.attention)[:, 0]  # (B, L), all titles come of one thought
    carrier = np.take_along_axis(history[:, ::-1], looked_at[:, ::-1].argmax(axis=1)[:, None], axis=1)
    return Ranking(items, scores, shares, counted, np.where(items == PAD, PAD, carrier))


def prompted_states(gates: Any, attention: Any, weights: Any, factors: Any) -> UserStates:
    """Return the states of B users for whom no query in item space exists: the title decoder has none."""
    return UserStates(np.zeros((*gates.shape, 0), np.float32), gates, attention, weights, factors)
