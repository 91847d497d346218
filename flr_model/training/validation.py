"""Validation while training: the same full ranking as `flr eval`, metrics only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flr_model import metrics
from flr_model.data.histories import HistoryRows
from flr_model.ranking import Scorer, hide_seen

BATCH = 256


def ranks_of(scorer: Scorer, rows: HistoryRows) -> metrics.Ints:
    """Return the (R,) ranks of the rows' targets among all items that the history does not hold."""
    ranks = []
    for start in range(0, len(rows), BATCH):
        part = rows.select(slice(start, start + BATCH))
        scores = scorer.scores(part)
        hide_seen(scores, part)
        ranks.append(metrics.target_ranks(scores, part.target))
    return np.concatenate(ranks) if ranks else np.zeros(0, np.int64)


def validator(scorer: Callable[[], Scorer], rows: HistoryRows) -> Callable[[], dict[str, float]]:
    """Return a function that ranks the rows with the present state of a model."""
    return lambda: metrics.means(ranks_of(scorer(), rows), (10,))
