"""`--guidance auto`: how much of the search for titles the factors steer, by validation."""

from __future__ import annotations

import logging

from flr_model.data.histories import HistoryRows
from flr_model.evaluation.validation import SEARCHED_ROWS, validator
from flr_model.nn.recommender import TrainableRecommender
from flr_model.progress import SILENT, Progress

logger = logging.getLogger(__name__)

WEIGHTS = (1.0, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0)
"""Tried in this order, from the factors alone to the language model alone."""

PATIENCE = 2
"""So many weights in a row without a better NDCG@10 end the trials."""


def choose_guidance(
    recommender: TrainableRecommender,
    valid: HistoryRows | None,
    limit: int | None = None,
    *,
    progress: Progress = SILENT,
) -> dict[float, float]:
    """Give a recommender that writes titles the guidance with the best validation NDCG@10, the larger of equals.

    Args:
        recommender: trained; its settings are changed.
        valid: validation rows; None only for a refit, which has the guidance of its run.
        limit: most of them that are looked at, evenly spaced, where `SEARCHED_ROWS` is more.
        progress: counts rows.

    Returns:
        NDCG@10 of every weight tried.
    """
    assert valid is not None, "a refit has the guidance of its run"
    rows = valid.subsample(min(limit or SEARCHED_ROWS, SEARCHED_ROWS))
    validate = validator(recommender.recommender, rows, progress=progress)
    tried: dict[float, float] = {}
    best = WEIGHTS[0]
    for place, weight in enumerate(WEIGHTS):
        if place > WEIGHTS.index(best) + PATIENCE:
            break
        recommender.config = recommender.config.with_guidance(weight)
        tried[weight] = validate()["NDCG@10"]
        if tried[weight] > tried[best]:
            best = weight
    recommender.config = recommender.config.with_guidance(best)
    figures = ", ".join(f"{weight:g}: {value:.4f}" for weight, value in tried.items())
    logger.info(
        "--guidance %g: weight of the factors in the search for titles, 1 is the factors alone "
        "(NDCG@10 of %d validation rows by weight: %s)",
        best,
        len(rows),
        figures,
    )
    return tried
