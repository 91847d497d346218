"""Which titles and items each user of a batch can be given, while titles are searched.

Shapes: B users, M items, T distinct titles, n pairs of a user and a node or item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flr_model.arrays import Bools, Ints, offsets_of
from flr_model.data.histories import HistoryRows
from flr_model.ranking.candidates import Candidates
from flr_model.titles.tree import TitleTree


@dataclass(frozen=True)
class OwnTitles:
    """Titles of each user.

    Args:
        tree: of the titles.
        keys: ``user * T + title`` of every pair, ascending.
    """

    tree: TitleTree
    keys: Ints

    @classmethod
    def of_items(cls, tree: TitleTree, user: Ints, item: Ints) -> OwnTitles:
        """Return the titles of pairs of a user and an item (n,)."""
        return cls(tree, np.unique(user * tree.n_titles + tree.title_of[item]))

    def below(self, user: Ints, node: Ints) -> Ints:
        """Return (n,) how many of the user's titles are under the node."""
        ends = (self.tree.last_title[node], self.tree.first_title[node])
        last, first = (np.searchsorted(self.keys, user * self.tree.n_titles + title) for title in ends)
        return last - first


@dataclass(frozen=True)
class Eligible:
    """Which titles each user can be given: those with an item that is a candidate and not hidden.

    Keys are ``user * M + item``, ascending.

    Args:
        tree: of the titles.
        offered: (M,) whether anybody can be given an item.
        offered_before: (T + 1,) titles with such an item before each one.
        restricted: (B,) whether a user has candidates of its own.
        hidden_items: keys of offered items that a user must not be given. hidden_titles: titles with no other ones.
        allowed_items: keys of a restricted user's candidates that are not hidden. allowed_titles: their titles.
    """

    tree: TitleTree
    offered: Bools
    offered_before: Ints
    restricted: Bools
    hidden_items: Ints
    hidden_titles: OwnTitles
    allowed_items: Ints
    allowed_titles: OwnTitles

    @classmethod
    def of(cls, tree: TitleTree, rows: HistoryRows, candidates: Candidates) -> Eligible:
        """Combine the histories and the candidates of B users."""
        n_items, n_titles = len(tree.items), tree.n_titles
        offered = np.ones(n_items, np.bool_) if candidates.offered is None else candidates.offered
        offered_items = np.bincount(tree.title_of[offered], minlength=n_titles)
        row, item = candidates.hidden(rows)
        hidden = np.unique((row * n_items + item)[offered[item]])
        title_key = hidden // n_items * n_titles + tree.title_of[hidden % n_items]
        titles, count = np.unique(title_key, return_counts=True)
        own = candidates.allowed or [None] * len(rows)
        keys = [user * n_items + np.unique(items) for user, items in enumerate(own) if items is not None]
        wanted = np.concatenate([*keys, np.zeros(0, np.int64)]).astype(np.int64)
        allowed = np.setdiff1d(wanted[offered[wanted % n_items]], hidden)
        return cls(
            tree,
            offered,
            offsets_of(offered_items > 0),
            np.asarray([items is not None for items in own], bool),
            hidden,
            OwnTitles(tree, titles[count == offered_items[titles % n_titles]]),
            allowed,
            OwnTitles.of_items(tree, allowed // n_items, allowed % n_items),
        )

    def any_left(self, user: Ints, node: Ints) -> Bools:
        """Return (n,) whether a title under the node is eligible for the user."""
        n_offered = self.offered_before[self.tree.last_title[node]] - self.offered_before[self.tree.first_title[node]]
        others = self.hidden_titles.below(user, node) < n_offered
        return np.where(self.restricted[user], self.allowed_titles.below(user, node) > 0, others)

    def items(self, user: Ints, item: Ints) -> Bools:
        """Return (n,) whether an item is eligible for the user."""
        key = user * len(self.tree.items) + item
        others = self.offered[item] & ~np.isin(key, self.hidden_items)
        return np.where(self.restricted[user], np.isin(key, self.allowed_items), others)
