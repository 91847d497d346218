"""Validation while training: the same full ranking as `flr eval`, two metrics only, of rows enough to choose by."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flr_model.config import EvalConfig
from flr_model.data.histories import HistoryRows
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.progress import SILENT, Progress
from flr_model.ranking.recommender import Recommender

logger = logging.getLogger(__name__)

CUTOFF = 10

RANKED_ROWS = 10_000
"""Validation rows that are ranked unless more are asked for: 26,044 took seven minutes of a core."""

SEARCHED_ROWS = 400
"""The same where each row takes a search for titles."""


def validation_rows(rows: HistoryRows, asked: int | None, *, searched: bool) -> HistoryRows:
    """Return the rows to validate with, evenly spaced, and say how many were left out unless that was asked for.

    Args:
        rows: of the validation split.
        asked: how many; None: as many as are worth their time.
        searched: whether ranking them takes a search for titles.
    """
    most = asked or (SEARCHED_ROWS if searched else RANKED_ROWS)
    if asked is None and most < len(rows):
        logger.info("validation by %d of %d rows, evenly spaced (--valid-rows)", most, len(rows))
    return rows.subsample(most)


def validator(
    recommender: Callable[[], Recommender], rows: HistoryRows, *, progress: Progress = SILENT
) -> Callable[[], dict[str, float]]:
    """Return a function that ranks the rows' targets with the present state of a model, and counts them."""

    def validate() -> dict[str, float]:
        present = recommender()
        ranks, _ = rank_rows(present, rows, present.catalog, EvalConfig(), progress, unit="validation rows")
        return metrics.means(ranks, (CUTOFF,))

    return validate
