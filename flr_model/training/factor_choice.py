"""`--n-factors auto`: the smallest K that short trials cannot tell from the best one.

The papers leave K to the person. Titles are read and pairs counted once; a trial trains a head of each K on the same
rows for at most one epoch and ranks the validation rows; more factors are only taken when they rank better.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import set_seed

from flr_model.config import EvalConfig, ModelConfig, TitleConfig, TrainConfig
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.progress import SILENT, Progress
from flr_model.training.objective import SftObjective
from flr_model.training.setup import Setup, set_up
from flr_model.training.trainer import Samples, Schedule, StageTrainer, rates_of

logger = logging.getLogger(__name__)

TRIED = (1, 2, 3, 4, 5, 6)
TRIAL_STEPS = 100
TRIAL_ROWS = 4096
"""Validation rows that decide, the first ones."""

RESAMPLES = 1000


@dataclass(frozen=True)
class FactorChoice:
    """Which K, and why.

    Args:
        n_factors: the K chosen.
        trials: validation NDCG@10 of each K tried.
        why: one sentence.
    """

    n_factors: int
    trials: dict[int, float]
    why: str


def choose_n_factors(
    data: Path, model: ModelConfig, train: TrainConfig, *, progress: Progress = SILENT
) -> FactorChoice:
    """Try several K and choose the smallest whose validation NDCG@10 is not below the best one's at the 95 % level.

    Args:
        data: dataset folder.
        model: shape; its K is not looked at.
        train: settings; a trial keeps them but for the number of steps, and leaves out the stage on sequences.
        progress: is told of the trials' steps.

    Raises:
        ArtifactError, ConfigError, DataError: as training would.
    """
    set_seed(train.seed)
    shape = replace(model, n_factors=TRIED[0], decoder="catalog", title=TitleConfig())  # factors need no writer
    setup = set_up(data, shape, train, progress=progress)
    encoder = setup.recommender.model.encoder
    untuned = copy.deepcopy({name: p for name, p in encoder.named_parameters() if p.requires_grad})
    gains = {}
    for k in TRIED:
        gains[k] = _trial(setup, k, train, progress)
        encoder.load_state_dict(untuned, strict=False)
        logger.info("trial of %d factors: validation NDCG@10 %.4f", k, gains[k].mean())
    return choose(gains, seed=train.seed)


def choose(gains: Mapping[int, npt.NDArray[np.float64]], *, seed: int) -> FactorChoice:
    """Choose among trials.

    Args:
        gains: NDCG@10 of each of the same R rows, by K.
        seed: of the bootstrap.
    """
    trials = {k: float(gain.mean()) for k, gain in gains.items()}
    best = max(sorted(trials), key=trials.__getitem__)
    lost = {k: metrics.paired_difference(gains[best], gains[k], RESAMPLES, seed) for k in sorted(gains) if k <= best}
    chosen = next(k for k, (_, low, _) in lost.items() if low <= 0)
    if chosen == best:
        why = f"K = {best} ranks best, and better than every smaller K beyond chance"
    else:
        mean, low, high = lost[chosen]
        why = f"K = {best} ranks best, but only {mean:.4f} ({low:.4f} to {high:.4f}) above the simpler K = {chosen}"
    return FactorChoice(chosen, trials, why)


def _trial(setup: Setup, n_factors: int, train: TrainConfig, progress: Progress) -> npt.NDArray[np.float64]:
    """Train shortly; return (R,) the NDCG@10 of the validation rows."""
    assert setup.valid is not None
    set_seed(train.seed)
    recommender = setup.with_factors(n_factors, train)
    steps = min(TRIAL_STEPS, -(-len(setup.rows) // (train.batch_size * train.grad_accumulation)))
    with tempfile.TemporaryDirectory(prefix="flr-factors-") as folder:
        StageTrainer(
            SftObjective(recommender, train),
            Samples.of_rows(recommender, setup.rows),
            validate=None,
            rates=rates_of(train),
            schedule=replace(Schedule.of(train), max_steps=steps),
            folder=Path(folder),
            progress=progress,
        ).run(resume=False)
    present = recommender.recommender()
    ranks, _ = rank_rows(present, setup.valid.select(slice(0, TRIAL_ROWS)), present.catalog, EvalConfig())
    return metrics.ndcg(ranks, 10)
