"""Validation while training: the same full ranking as `flr eval`, two metrics only."""

from __future__ import annotations

from collections.abc import Callable

from flr_model.config import EvalConfig
from flr_model.data.histories import HistoryRows
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.progress import SILENT, Progress
from flr_model.ranking.recommender import Recommender

CUTOFF = 10


def validator(
    recommender: Callable[[], Recommender], rows: HistoryRows, *, progress: Progress = SILENT
) -> Callable[[], dict[str, float]]:
    """Return a function that ranks the rows' targets with the present state of a model, and counts them."""

    def validate() -> dict[str, float]:
        present = recommender()
        ranks, _ = rank_rows(present, rows, present.catalog, EvalConfig(), progress, unit="validation rows")
        return metrics.means(ranks, (CUTOFF,))

    return validate
