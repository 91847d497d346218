"""The `title` decoder as a recommender: what the search finds, as ranked items with their explanation.

Shapes: B users, M items, T distinct titles, K factors, k recommendations, n pairs of a user and a node or title.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.config import ModelConfig
from flr_model.data.catalog import TITLES_ALONE, Catalog, MoreOfItems
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.mixture import Mixture
from flr_model.ranking.parts import Parts
from flr_model.ranking.recommender import Ranking, Reader, UserStates, columns_for
from flr_model.ranking.topk import Best
from flr_model.titles.beams import Doubles, Found, by_user
from flr_model.titles.eligible import Eligible, OwnTitles
from flr_model.titles.latent import EXPECTED, expected_vectors, expected_weights
from flr_model.titles.search import TitleReader, TitleSearch
from flr_model.titles.tree import TitleTree

USERS_AT_ONCE = 64
"""Users whose keys and values are in memory at once."""

LEAST_MASS = 1e-15
"""Of a node; smaller ones are lost in the difference of two sums."""

WANTED = 5
"""Items of the guide that are scored besides, for every one of ``--beams``."""

LISTED = 20
"""Items of a list that is evaluated; no metric looks further."""


class Writer(Reader, TitleReader, Protocol):
    """A network that reads histories and writes titles."""

    def tokenize(self, titles: Sequence[str]) -> list[Ints]:
        """Return the tokens of titles, without the end token."""


class TitleRecommender:
    """Recommends what the language model would write next, guided by the mixture of the factors.

    With guidance w a score is (1 - w) log p(title) + w log P(item), where the language model shares the probability of
    a title out among its items by popularity. With w = 1 the list is the mixture's own, exact, and nothing is written.

    Args:
        reader: the network.
        catalog: M items.
        vectors: (M, D) item vectors.
        evidence: what the factors counted.
        tree: of the catalogue's titles.
        model: settings of the search; while its guidance is not chosen yet, the factors alone decide.
    """

    def __init__(
        self,
        reader: Writer,
        catalog: Catalog,
        vectors: Floats,
        evidence: Evidence,
        tree: TitleTree,
        model: ModelConfig,
    ) -> None:
        self.reader = reader
        self.catalog = catalog
        self.vectors = vectors
        self.evidence = evidence
        self.tree = tree
        self.model = model
        self.max_history = model.max_history
        self.n_factors = model.chosen_factors
        self.guide = CatalogRecommender(reader, catalog, vectors, evidence, max_history=model.max_history)
        self.guidance = 1.0 if model.title.guidance is None else model.title.guidance
        self._titles: list[str] = catalog.texts.tolist()

    @property
    def scores_items(self) -> bool:
        """Say whether the factors alone decide."""
        return self.guidance == 1

    def states(self, rows: HistoryRows) -> UserStates:
        """Run the network on the rows' histories; nothing is written."""
        return self.guide.states(rows)

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M) scores of the best `LISTED` candidates, all others have -inf; with guidance 1 of all items."""
        if self.scores_items:
            return self.guide.scores(rows, candidates)
        best = self.recommend(rows, LISTED, candidates)
        out = np.full((len(rows), len(self.catalog)), -np.inf, np.float32)
        row, place = np.nonzero(best.items != PAD)
        out[row, best.items[row, place]] = best.scores[row, place]
        return out

    def factor_scores(self, rows: HistoryRows) -> Floats | None:
        """Return (B, K, M) logarithms of g_k P_k(i), of the guide; None without guidance."""
        return self.guide.factor_scores(rows) if self.guidance else None

    def mixture(self, rows: HistoryRows, states: UserStates) -> Mixture | None:
        """Return what the factors say of the catalogue, as the guide; None without guidance."""
        return self.guide.mixture(rows, states) if self.guidance else None

    def recommend(self, rows: HistoryRows, top_k: int, candidates: Candidates = UNSEEN) -> Ranking:
        """Search for the best titles of each row, score the guide's best items too, and explain the best of all.

        Shares and reasons are w times those of an item in the guide's prediction plus 1 - w times those of the items
        that the factors expect, which all titles are written after.
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
        return TitleRecommender(reader, self.catalog, self.vectors, self.evidence, self.tree, self.model)

    def with_items(
        self, item_ids: Sequence[str], titles: Sequence[str], more: MoreOfItems = TITLES_ALONE
    ) -> TitleRecommender:
        """Return a recommender that can also write the titles of items never seen in training."""
        if not len(item_ids):
            return self
        guide = self.guide.with_items(item_ids, titles, more)
        tree = self.tree.with_items(self.reader.tokenize(guide.catalog.texts[len(self.catalog) :].tolist()))
        return TitleRecommender(self.reader, guide.catalog, guide.vectors, guide.evidence, tree, self.model)

    def _recommend(self, rows: HistoryRows, top_k: int, candidates: Candidates) -> Ranking:
        if self.scores_items:
            return self.guide.recommend(rows, top_k, candidates)
        states = self.states(rows)
        histories = PaddedHistories.of(rows, columns_for(rows, self.max_history), self.evidence.lag_bounds)
        prompted = self.reader.prompt(histories, self.vectors, self._titles)
        mixture, eligible = self.guide.mixture(rows, states), Eligible.of(self.tree, rows, candidates)
        shares = Shares(Guidance.of(self.tree, mixture.log_probabilities()), self.guidance, eligible)
        width = max(self.model.title.beams, top_k)
        expected = self.expected(mixture, rows, candidates)
        found = TitleSearch(
            self.tree,
            self.reader,
            prompted,
            expected_vectors(expected, self.vectors),
            width=width,
            guide=shares.guide,
            guidance=self.guidance,
            eligible=eligible,
            bonus=shares.best,
            wanted=self._wanted(mixture, rows, top_k, candidates) if self.guidance else None,
        ).run()
        best = shares.ranked(found, len(rows), top_k)
        return self._explained(best, expected, rows, states, mixture)

    def expected(self, mixture: Mixture, rows: HistoryRows, candidates: Candidates) -> Best:
        """The items whose vectors the latent token spells."""
        return self.guide.best(mixture, rows, EXPECTED, candidates)

    def _wanted(self, mixture: Mixture, rows: HistoryRows, top_k: int, candidates: Candidates) -> OwnTitles:
        """The titles of the guide's best items: many begin in a way that beams leave (docs/lab.md)."""
        items = self.guide.best(mixture, rows, max(WANTED * self.model.title.beams, top_k), candidates).items
        user, place = np.nonzero(items != PAD)
        return OwnTitles.of_items(self.tree, user, items[user, place])

    def _explained(
        self, best: Best, expected: Best, rows: HistoryRows, states: UserStates, mixture: Mixture
    ) -> Ranking:
        """Say what the best items (B, k) are made of, and the expected ones that all titles are written after."""
        guided, own = np.float32(self.guidance), np.float32(1 - self.guidance)
        taken = []
        for items in (expected.items, best.items):
            shares, parts = mixture.shares(items), Parts.of(self.evidence, mixture, states, rows, items)
            taken.append((shares, parts.counted(shares)[..., None], parts.carried(shares)))
        weights = expected_weights(expected)[:, None]  # (B, 1, n)
        there = (best.items != PAD)[..., None]
        shares, counted, carried = (
            np.where(there, guided * of_item + own * np.matmul(weights, of_expected), 0)
            for of_expected, of_item in zip(*taken, strict=True)
        )
        return Ranking(best.items, best.scores, shares, counted[..., 0], parts.because(carried))


@dataclass(frozen=True)
class Guidance:
    """Probabilities of items, summed over the titles under a node (D3's guidance).

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
        """Make probabilities of (B, M) logits of items."""
        logs = scores.astype(np.float64)
        logs -= logs.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        by_title = np.add.reduceat(np.exp(logs)[:, tree.items], tree.first_item[:-1], axis=1)
        return cls(tree, np.concatenate([np.zeros((len(scores), 1)), np.cumsum(by_title, axis=1)], axis=1), logs)

    def log_mass(self, user: Ints, node: Ints) -> Doubles:
        """Return (n,) the logarithm of the probability of all titles under a node."""
        mass = self.below[user, self.tree.last_title[node]] - self.below[user, self.tree.first_title[node]]
        logs: Doubles = np.log(np.maximum(mass, LEAST_MASS))
        return logs


@dataclass(frozen=True)
class Shares:
    """How a title's probability is shared by its items: by popularity, and by the guide.

    Args:
        guide: of the search.
        guidance: its weight.
        eligible: items that a user can be given.
    """

    guide: Guidance
    guidance: float
    eligible: Eligible

    def items(self, user: Ints, title: Ints) -> tuple[Ints, Ints, Doubles]:
        """Return the eligible items of pairs of a user and a title (n,).

        Returns:
            (P,) pairs, (P,) items, and the weighed logarithms of their shares.
        """
        tree = self.guide.tree
        pair, item = tree.items_of(title)
        left = self.eligible.items(user[pair], item)
        pair, item = pair[left], item[left]
        whole = self.guide.log_mass(user, tree.leaf[title].astype(np.int64))
        by_guide = self.guide.items[user[pair], item] - whole[pair]
        return pair, item, (1 - self.guidance) * tree.log_share[item] + self.guidance * by_guide

    def best(self, user: Ints, title: Ints) -> Doubles:
        """Return (n,) the largest share among the eligible items of each title, as a logarithm."""
        pair, _, share = self.items(user, title)
        out = np.full(len(title), -np.inf)
        np.maximum.at(out, pair, share)
        return out

    def ranked(self, found: Found, n_users: int, top_k: int) -> Best:
        """Return the ``top_k`` best items of every user's titles."""
        pair, item, share = self.items(found.user, found.title)
        score = (found.language + found.guided)[pair] + share
        order, place = by_user(found.user[pair], score, top_k)
        best = Best.nothing(n_users, top_k)
        user = found.user[pair][order]
        best.items[user, place], best.scores[user, place] = item[order], score[order]
        return best
