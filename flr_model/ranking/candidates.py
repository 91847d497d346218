"""Who may be recommended what: one object for every recommender, for evaluation and scoring.

Shapes: B rows, M items, H pairs of a row and a hidden item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Bools, Floats, Ints
from flr_model.data.histories import HistoryRows

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Candidates:
    """The items that each of B rows can be given.

    Args:
        allow_seen: keep what a row's user interacted with.
        allowed: per row the positions to choose from, ascending and distinct, None for all; None means all for all.
        offered: (M,) the items that anybody can be given; None means all.
        boost: (M,) added to the logarithm of each item's probability; None adds nothing.
    """

    allow_seen: bool = False
    allowed: Sequence[Ints | None] | None = None
    offered: Bools | None = None
    boost: Floats | None = None

    def hidden(self, rows: HistoryRows) -> tuple[Ints, Ints]:
        """Return (H,) rows and (H,) seen items that are no candidates; an item may come twice."""
        return (_NONE, _NONE) if self.allow_seen else rows.seen()

    def select(self, index: Ints) -> Candidates:
        """Return the candidates of some rows."""
        return self if self.allowed is None else replace(self, allowed=[self.allowed[row] for row in index])

    def mask(self, scores: npt.NDArray[Any], rows: HistoryRows) -> npt.NDArray[Any]:
        """Boost (B, M) scores, set those of all that is no candidate to -inf, in place, and return them."""
        if self.boost is not None:
            scores += self.boost
        scores[self.hidden(rows)] = -np.inf
        if self.offered is not None:
            scores[:, ~self.offered] = -np.inf
        for row, own in enumerate(self.allowed or ()):
            if own is not None:
                kept = scores[row, own]
                scores[row] = -np.inf
                scores[row, own] = kept
        return scores


UNSEEN = Candidates()
"""The whole catalogue but what a user has seen."""

EVERYTHING = Candidates(allow_seen=True)
"""The whole catalogue."""
