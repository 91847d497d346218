"""`flr train --dry-run`: what would be trained, on what, for how long; a few steps are run to know."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from flr_model.config import ModelConfig, TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.backbone import best_device
from flr_model.nn.recommender import TrainableRecommender
from flr_model.progress import SILENT, Progress
from flr_model.training.objectives import Objective, objective_for
from flr_model.training.setup import set_up

TIMED_STEPS = 3


@dataclass(frozen=True)
class TrainPlan:
    """What `flr train` would do.

    Args:
        examples: two training rows as the model reads them.
        tuning: of the backbone. rows: to train on. positions: of one history, the longest.
        parameters: by part of the model. trainable: those that would learn.
        steps: in all epochs. seconds_per_step: measured. minutes: for all steps, without validation.
        peak_memory_mb: of this process so far.
    """

    examples: list[str]
    tuning: str
    rows: int
    positions: int
    parameters: dict[str, int]
    trainable: int
    steps: int
    seconds_per_step: float
    minutes: float
    peak_memory_mb: float


def plan(data: Path, *, model: ModelConfig, train: TrainConfig, progress: Progress = SILENT) -> TrainPlan:
    """Build everything, time a few steps, write nothing.

    Raises:
        ArtifactError, ConfigError, DataError: as training would.
    """
    set_seed(train.seed)
    setup = set_up(data, model, train, progress=progress)
    objective = objective_for(setup.recommender, train)
    seconds = _seconds_per_step(objective, setup.recommender, setup.rows, train.batch_size * train.grad_accumulation)
    per_epoch = math.ceil(len(setup.rows) / (train.batch_size * train.grad_accumulation))
    steps = train.max_steps or per_epoch * setup.epochs
    sample = setup.recommender.encode(setup.rows.select(slice(0, 256)), training=False)
    network = setup.recommender.model
    parts: dict[str, Any] = {
        "backbone": network.encoder.trunk.lm,
        "reasoner": network.reasoner,
        "decoder": network.decoder,
        "evidence": setup.recommender.evidence,
    }
    return TrainPlan(
        examples=[describe_row(setup.recommender, setup.rows, row) for row in range(min(2, len(setup.rows)))],
        tuning=setup.tuning,
        rows=len(setup.rows),
        positions=sample.get("input_ids", sample["histories"]).shape[1] + model.latent_tokens,
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        trainable=sum(p.numel() for p in objective.parameters() if p.requires_grad),
        steps=steps,
        seconds_per_step=seconds,
        minutes=steps * seconds / 60,
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


def _seconds_per_step(
    objective: Objective, recommender: TrainableRecommender, rows: HistoryRows, batch_size: int
) -> float:
    """Time forward and backward passes; the first is a warm-up."""
    device = best_device()
    objective.to(device)
    durations = []
    for step in range(TIMED_STEPS):
        numbers = np.arange(step * batch_size, (step + 1) * batch_size) % len(rows)
        batch = recommender.encode(rows.select(numbers), training=True)
        began = time.perf_counter()
        loss = objective(**{name: value.to(device) for name, value in batch.items()})["loss"]
        loss.backward()
        loss.item()
        durations.append(time.perf_counter() - began)
    return min(durations[1:])
