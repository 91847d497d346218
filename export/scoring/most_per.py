"""At most n recommendations of each value of a column: not ten books of one author.

Shapes: B users, M items, k places.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, fields

import numpy as np

from flr_model.arrays import Ints
from flr_model.data.catalog import Catalog, values_of
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ConfigError
from flr_model.ranking.candidates import Candidates
from flr_model.ranking.recommender import Ranking, Recommender

logger = logging.getLogger(__name__)

DEEPER = 4
"""Times as many places are ranked where a list is not full yet."""


@dataclass(frozen=True)
class MostPer:
    """A limit on each value of a column of the items.

    Args:
        column: its name.
        most: items of one value in a list. An item with several values counts under each, one without is not limited.
    """

    column: str
    most: int

    @classmethod
    def parse(cls, text: str | None) -> MostPer | None:
        """Read "category=2"; None stays None.

        Raises:
            ConfigError: if it is not of that form.
        """
        if text is None:
            return None
        column, _, number = text.rpartition("=")
        if not column.strip() or not re.fullmatch(r"\s*0*[1-9]\d{0,8}\s*", number, re.ASCII):
            raise ConfigError(f"--max-per is {text!r}, expected for instance category=2: two of each category at most")
        return cls(column.strip(), int(number))

    def of(self, catalog: Catalog) -> Limit:
        """Look the column up.

        Raises:
            DataError: if the items have no such column.
        """
        values = [values_of(cell) for cell in catalog.detail(self.column, "--max-per").tolist()]
        if not any(values):
            logger.warning("--max-per: %s is empty for every item, so that it limits nothing", self.column)
        return Limit(values, self.most)


@dataclass(frozen=True)
class Limit:
    """The values of each of M items, and how many items of one value a list may have."""

    values: list[list[str]]
    most: int

    def recommend(self, recommender: Recommender, rows: HistoryRows, top_k: int, candidates: Candidates) -> Ranking:
        """Rank as deep as it takes to fill the ``top_k`` places of each user; short lists have nothing more to give."""
        top_k = min(top_k, len(self.values))
        depth, todo = top_k, np.arange(len(rows))
        done: list[tuple[Ints, Ranking]] = []
        while len(todo):
            depth = min(depth * DEEPER, len(self.values))
            ranking = recommender.recommend(rows.select(todo), depth, candidates.select(todo))
            kept = [self.kept(items, top_k) for items in ranking.items.tolist()]
            ended = (ranking.items[:, -1] == PAD) | (depth == len(self.values))
            full = np.asarray([len(places) == top_k for places in kept]) | ended
            done.append((todo[full], _only(ranking, [kept[row] for row in np.flatnonzero(full)], full, top_k)))
            todo = todo[~full]
        order = np.argsort(np.concatenate([which for which, _ in done]))
        parts = [ranking for _, ranking in done]
        return Ranking(*(np.concatenate([getattr(part, f.name) for part in parts])[order] for f in fields(Ranking)))

    def kept(self, items: list[int], top_k: int) -> list[int]:
        """Return the places of a list that stay, at most ``top_k``, best first."""
        counts: Counter[str] = Counter()
        places: list[int] = []
        for place, item in enumerate(items):
            if item == PAD or len(places) == top_k:
                break
            if all(counts[value] < self.most for value in self.values[item]):
                counts.update(self.values[item])
                places.append(place)
        return places


def _only(ranking: Ranking, kept: list[list[int]], rows: np.ndarray, top_k: int) -> Ranking:
    """Keep some rows, and of each the given places, at the front."""
    nothing = {"items": PAD, "scores": -np.inf, "because": PAD}
    out = {}
    for f in fields(Ranking):
        values = getattr(ranking, f.name)[rows]
        out[f.name] = np.full((len(kept), top_k, *values.shape[2:]), nothing.get(f.name, 0), values.dtype)
        for row, places in enumerate(kept):
            out[f.name][row, : len(places)] = values[row, places]
    return Ranking(**out)
