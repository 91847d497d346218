"""`flr train --dry-run`: what would be trained, on what, for how long; a few steps are run to know."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from flr_model.config import ModelConfig, TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.backbone import best_device
from flr_model.nn.recommender import TrainableRecommender
from flr_model.progress import SILENT, Progress
from flr_model.training import factor_choice
from flr_model.training.learner import Learner
from flr_model.training.objectives import objective_for
from flr_model.training.sequences import (
    PIECES_PER_STEP,
    SequenceObjective,
    learning,
    sequence_learners,
    sequence_samples,
)
from flr_model.training.setup import set_up
from flr_model.training.sft import settings_of
from flr_model.training.trainer import Samples

TIMED_STEPS = 3


@dataclass(frozen=True)
class TrainPlan:
    """What `flr train` would do.

    Args:
        examples: two training rows as the model reads them.
        n_factors: K; where it would be chosen, the largest that would be tried.
        tuning: of the backbone. rows: to train on. positions: of one history, the longest.
        parameters: by part of the model. trainable: those that would learn.
        sequence_steps: of the trunk on sequences. steps: of the head, in all epochs. seconds_per_step: of the head,
        measured. minutes: for all steps of both, without validation and without trials of K.
        peak_memory_mb: of this process so far.
    """

    examples: list[str]
    n_factors: str
    tuning: str
    rows: int
    positions: int
    parameters: dict[str, int]
    trainable: int
    sequence_steps: int
    steps: int
    seconds_per_step: float
    minutes: float
    peak_memory_mb: float


def plan(
    data: Path, *, model: ModelConfig, train: TrainConfig, refit: Path | None = None, progress: Progress = SILENT
) -> TrainPlan:
    """Build everything, time a few steps, write nothing; the arguments are those of `flr_model.training.sft.train`.

    Raises:
        ArtifactError, ConfigError, DataError: as training would.
    """
    if refit is not None:
        model, train = settings_of(refit)
    n_factors = str(model.n_factors)
    if model.n_factors == factor_choice.AUTO:
        tried = factor_choice.TRIED
        model = replace(model, n_factors=max(tried))
        n_factors = f"{max(tried)}: the largest of {', '.join(map(str, tried))}, of which trials would choose"
    set_seed(train.seed)
    setup = set_up(data, model, train, hold_out=refit is None, progress=progress)
    recommender = setup.recommender
    objective = objective_for(recommender, train)
    learners = {parameter for parameter in objective.parameters() if parameter.requires_grad}
    rows = Samples.of_rows(recommender, setup.rows)
    steps, seconds = _steps(objective, rows, train.batch_size * train.grad_accumulation, setup.epochs, train.max_steps)
    sequence_steps, per_sequence_step = 0, 0.0
    if setup.tuning == "sequences":
        on_sequences, samples = SequenceObjective(recommender, train), sequence_samples(recommender, setup.rows)
        learners |= sequence_learners(recommender)
        with learning(recommender, sequence_learners(recommender)):
            sequence_steps, per_sequence_step = _steps(
                on_sequences,
                samples,
                PIECES_PER_STEP * train.grad_accumulation,
                train.sequence_epochs,
                train.max_steps,
            )
    sample = recommender.encode(setup.rows.select(slice(0, 256)), training=False)
    network = recommender.model
    parts: dict[str, Any] = {
        "backbone": network.encoder.trunk.lm,
        "reasoner": network.reasoner,
        "decoder": network.decoder,
        "evidence": recommender.evidence,
    }
    return TrainPlan(
        examples=[describe_row(recommender, setup.rows, row) for row in range(min(2, len(setup.rows)))],
        n_factors=n_factors,
        tuning=setup.tuning,
        rows=len(setup.rows),
        positions=sample.get("input_ids", sample["histories"]).shape[1] + model.latent_tokens,
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        trainable=sum(parameter.numel() for parameter in learners),
        sequence_steps=sequence_steps,
        steps=steps,
        seconds_per_step=seconds,
        minutes=(steps * seconds + sequence_steps * per_sequence_step) / 60,
        peak_memory_mb=peak_memory_mb(),
    )


def describe_row(recommender: TrainableRecommender, rows: HistoryRows, row: int) -> str:
    """Write a row as the model reads it: the tokens of `text`, or the titles of the positions of `items`."""
    titles, one = recommender.catalog.titles, rows.select(slice(row, row + 1))
    batch = recommender.encode(one, training=False)
    if "input_ids" in batch:
        read = " ".join(str(token) for token in batch["input_ids"][0].tolist())
    else:
        read = " | ".join(titles[item] for item in batch["histories"][0].tolist() if item >= 0)
    return f"{read} -> {titles[one.target[0]]}"


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MiB; NaN where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _steps(objective: Learner, samples: Samples, batch_size: int, epochs: int, max_steps: int) -> tuple[int, float]:
    """Return the number of steps, and the seconds of one: forward and backward passes, the first as a warm-up."""
    device = best_device()
    objective.to(device)
    durations = []
    for step in range(TIMED_STEPS):
        batch = samples.batch(np.arange(step * batch_size, (step + 1) * batch_size) % samples.n)
        began = time.perf_counter()
        loss = objective(**{name: value.to(device) for name, value in batch.items()})["loss"]
        loss.backward()
        loss.item()
        durations.append(time.perf_counter() - began)
    return max_steps or math.ceil(samples.n / batch_size) * epochs, min(durations[1:])
