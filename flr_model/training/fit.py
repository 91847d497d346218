"""The training itself, stage by stage: from an untrained setup to weights."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from flr_model.config import TrainConfig
from flr_model.nn.device import writes_in_bf16
from flr_model.progress import Progress
from flr_model.training.guidance import choose_guidance
from flr_model.training.objective import SftObjective
from flr_model.training.reporter import BEST
from flr_model.training.sequences import learn_sequences, sequence_learners, weigh_next_item_head
from flr_model.training.setup import Setup
from flr_model.training.tracking import Tracking
from flr_model.training.trainer import Samples, Schedule, StageTrainer, Validate, rates_of
from flr_model.training.writing import learn_to_write, rows_stage, titles_stage


@dataclass(frozen=True)
class Fitted:
    """How a training ended.

    Args:
        forecast: weight of the trunk's own prediction.
        steps: of the head's training.
        best_epoch: whose weights were kept.
        curve: validation NDCG@10 after each epoch of the head; empty without validation.
        seconds: wall-clock time.
        learned: the parameters that learned in any stage.
    """

    forecast: float
    steps: int
    best_epoch: float
    curve: dict[str, float]
    seconds: float
    learned: set[nn.Parameter]


def fit(
    setup: Setup, train: TrainConfig, *, validate: Validate | None, folder: Path, resume: bool, progress: Progress
) -> Fitted:
    """Train the model of a setup in place: the backbone on sequences, the factors on rows, what writes titles, weights.

    Args:
        setup: untrained.
        train: settings; its epochs are those of the setup.
        validate: ranks the validation rows by the factors; None for a refit.
        folder: for checkpoints.
        resume: go on from checkpoints in it.
        progress: is told of steps and losses.
    """
    began = time.perf_counter()
    about: Any = {"resume": resume, "progress": progress, "tracking": setup.tracking}
    fitted = fit_factors(setup, train, validate=validate, folder=folder, **about)
    recommender, writers, writer = setup.recommender, setup.writers, setup.recommender.head.writer
    if writer is not None:
        for stage in (titles_stage(recommender, train), rows_stage(recommender, setup.rows, train)):
            learn_to_write(stage, writers, folder=folder, **about)
        writer.encoder.trunk.bf16 = writes_in_bf16()  # as a loaded run writes
    if recommender.config.guidance_open:
        choose_guidance(recommender, setup.valid, train.valid_rows, progress=progress)
    return replace(fitted, learned=fitted.learned | writers, seconds=time.perf_counter() - began)


def fit_factors(
    setup: Setup,
    train: TrainConfig,
    *,
    validate: Validate | None,
    folder: Path,
    resume: bool,
    progress: Progress,
    tracking: Tracking = Tracking(),
) -> Fitted:
    """Train all but what writes titles; the arguments are those of `fit`."""
    began = time.perf_counter()
    recommender, learned, next_item_head = setup.recommender, set(), None
    about: Any = {"resume": resume, "progress": progress, "tracking": tracking}
    if setup.tuning == "sequences":
        next_item_head = learn_sequences(recommender, setup.rows, train, folder=folder / "sequences", **about)
        learned |= sequence_learners(recommender)
    objective = SftObjective(recommender, train)
    learned |= {parameter for parameter in objective.parameters() if parameter.requires_grad}
    trainer = StageTrainer(
        objective,
        Samples.of_rows(recommender, setup.rows),
        validate=validate,
        rates=rates_of(train),
        schedule=Schedule.of(train),
        folder=folder,
        progress=progress,
        tracking=tracking,
    )
    trainer.run(resume=resume)
    forecast = 0.0
    if next_item_head is not None:
        without = trainer.state.best_metric
        forecast = weigh_next_item_head(recommender, next_item_head, train.forecast, validate, without)
    recommender.model.encoder.trunk.bf16 = False  # as a loaded run reads
    return Fitted(
        forecast=forecast,
        steps=trainer.state.global_step,
        best_epoch=_best_epoch(trainer.state),
        curve={f"{entry['epoch']:g}": entry[BEST] for entry in trainer.state.log_history if BEST in entry},
        seconds=time.perf_counter() - began,
        learned=learned,
    )


def _best_epoch(state: Any) -> float:
    """Return the epoch whose weights were kept: the best one, or the last without validation."""
    best = int(state.best_global_step or state.global_step)
    epoch: float = state.epoch or 0.0
    return round(epoch * best / max(int(state.global_step), 1), 2)
