"""What users get of whom nothing is known: the items that were bought most.

Shapes: F users, M items, K factors, k places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flr_export.scoring.most_per import Limit
from flr_model.arrays import Bools, Floats, Ints
from flr_model.data.histories import PAD
from flr_model.errors import ArtifactError
from flr_model.ranking.recommender import Ranking, Recommender

MODEL, POPULAR = "model", "popular"
"""What stands in the column `source` of a result."""


@dataclass(frozen=True)
class Popular:
    """Ranks items by their training interactions.

    Args:
        scores: (M,) logarithm of each item's share of the interactions, boosted; -inf where it has none.
        order: the items that may be recommended, best first; equal ones in order of position.
        top_k: k, at most M.
        n_factors: K.
        limit: how many items of one value a list may have; None for any number.
    """

    scores: Floats
    order: Ints
    top_k: int
    n_factors: int
    limit: Limit | None = None

    @classmethod
    def of(
        cls,
        recommender: Recommender,
        top_k: int,
        offered: Bools | None = None,
        boost: Floats | None = None,
        limit: Limit | None = None,
    ) -> Popular:
        """Order the items of a recommender.

        Args:
            recommender: knows the interactions of its items.
            top_k: items per user.
            offered: (M,) the items that anybody can be given; None means all.
            boost: (M,) added to the logarithms; None adds nothing.
            limit: how many items of one value a list may have.

        Raises:
            ArtifactError: if the interactions of its items are not known.
        """
        degree = recommender.evidence.degree
        if degree is None:
            raise ArtifactError(
                "--fallback popular: the bundle does not say how often its items were bought",
                hint="an earlier flr made it: train and export again",
            )
        with np.errstate(divide="ignore"):
            scores = np.log(degree / max(degree.sum(), 1)).astype(np.float32)
        if boost is not None:
            scores = scores + boost
        order = np.argsort(-scores, kind="stable")
        if offered is not None:
            order = order[offered[order]]
        return cls(scores, order, min(top_k, len(degree)), recommender.n_factors, limit)

    def rank(self, n: int, allowed: Sequence[Ints] | None = None) -> Ranking:
        """Return the lists of F users; what a factor or a history item would explain is NaN and PAD.

        Args:
            n: F.
            allowed: per user the positions to choose from, ascending; None means all.
        """
        lists = [self._everybodys] * n if allowed is None else [self._best(self._among(own)) for own in allowed]
        items = np.full((n, self.top_k), PAD, np.int64)
        for row, best in enumerate(lists):
            items[row, : len(best)] = best
        return Ranking(
            items=items,
            scores=np.where(items == PAD, np.float32(-np.inf), self.scores[items]),
            shares=np.full((n, self.top_k, self.n_factors), np.nan, np.float32),
            counted=np.full((n, self.top_k), np.nan, np.float32),
            because=np.full_like(items, PAD),
        )

    @cached_property
    def _everybodys(self) -> Ints:
        return self._best(self.order)

    def _among(self, own: Ints) -> Ints:
        return self.order[np.isin(self.order, own)]

    def _best(self, order: Ints) -> Ints:
        if self.limit is None:
            return order[: self.top_k]
        return order[self.limit.kept(order.tolist(), self.top_k)]
