"""Beginnings of titles and complete ones, for many users at once, in flat arrays.

Shapes: B users, n beams or titles, D tokens of the longest title.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Bools, Ints
from flr_model.titles.tree import ROOT

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Beams:
    """n beginnings of titles; their order is by user, best first.

    Args:
        user: (n,) of the batch. node: (n,) of the tree.
        language: (n,) log-likelihood. guided: (n,) log-probability by the guide.
        depth: (n,) tokens so far.
        tokens: (n, D) these tokens. column: (n, D) place of each in the cache, -1 while it was not read.
    """

    user: Ints
    node: Ints
    language: Doubles
    guided: Doubles
    depth: Ints
    tokens: Ints
    column: Ints

    @classmethod
    def start(cls, n_users: int, longest: int) -> Beams:
        """Return one beam a user that has written nothing."""
        zero, none, nothing = np.zeros(n_users), np.zeros(n_users, np.int64), np.full((n_users, longest), -1)
        return cls(np.arange(n_users), np.full(n_users, ROOT), zero, zero, none, nothing, nothing)

    @classmethod
    def joined(cls, one: Beams, other: Beams) -> Beams:
        """Return the beams of different users."""
        both = [np.concatenate([getattr(one, field.name), getattr(other, field.name)]) for field in fields(cls)]
        return cls(*both).take(np.argsort(both[0], kind="stable"))

    def take(self, index: npt.NDArray[Any]) -> Beams:
        """Return the beams of an index array or mask."""
        return Beams(*(getattr(self, field.name)[index] for field in fields(self)))

    def grown(self, token: npt.NDArray[Any], **changes: Any) -> Beams:
        """Return the beams with one more token each."""
        tokens = self.tokens.copy()
        tokens[np.arange(len(token)), self.depth] = token
        return replace(self, tokens=tokens, depth=self.depth + 1, **changes)


@dataclass(frozen=True)
class Found:
    """Complete titles, by user, best first.

    Args:
        user: (n,). title: (n,) of the tree. score: (n,) what they are ranked by. language: (n,) the part of the score
            that the language model gives. guided: (n,) the part of the guide; both, and the bonus, add up to the score.
    """

    user: Ints
    title: Ints
    score: Doubles
    language: Doubles
    guided: Doubles

    @classmethod
    def empty(cls) -> Found:
        """Return no title."""
        return cls(*(np.zeros(0, kind) for kind in (np.int64, np.int64, float, float, float)))

    @classmethod
    def joined(cls, parts: list[Found]) -> Found:
        """Join, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def take(self, index: npt.NDArray[Any]) -> Found:
        """Return those of an index array or mask."""
        return Found(*(getattr(self, field.name)[index] for field in fields(self)))


def by_user(user: Ints, score: Doubles, limit: int, always: Bools | None = None) -> tuple[Ints, Ints]:
    """Return the order by user, best first, and the rank within the user: ``limit`` each, and those of a mask (n,).

    >>> by_user(np.array([0, 0, 1, 0]), np.array([1.0, 3.0, 2.0, 2.0]), 2)
    (array([1, 3, 2]), array([0, 1, 0]))
    """
    order = np.lexsort((-score, user))
    rank = count_up(user[order])
    kept = rank < limit if always is None else (rank < limit) | always[order]
    return order[kept], rank[kept]


def count_up(group: Ints) -> Ints:
    """Number the members of each group, given in order of groups, from 0."""
    start = np.flatnonzero(np.diff(group, prepend=-1))
    counted: Ints = np.arange(len(group)) - np.repeat(start, np.diff(np.r_[start, len(group)]))
    return counted
