"""`flr train --dry-run`: what would be trained, on what, for how long; a few steps are run to know."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from accelerate.utils import send_to_device
from torch import nn
from transformers import set_seed

from flr_model.config import ModelConfig, TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.device import best_device
from flr_model.nn.recommender import TrainableRecommender
from flr_model.progress import SILENT, Progress
from flr_model.training import factor_choice
from flr_model.training.learner import Learner
from flr_model.training.objective import SftObjective
from flr_model.training.sequences import (
    PIECES_PER_STEP,
    SequenceObjective,
    learning,
    sequence_learners,
    sequence_samples,
)
from flr_model.training.setup import Setup, set_up
from flr_model.training.sft import settings_of
from flr_model.training.trainer import Samples
from flr_model.training.writing import rows_stage, titles_stage

TIMED_STEPS = 3


@dataclass(frozen=True)
class TrainPlan:
    """What `flr train` would do.

    Args:
        examples: two training rows as the model reads them.
        n_factors: K; where it would be chosen, the largest that would be tried.
        tuning: of the backbone. rows: to train on. positions: of one history, the longest.
        parameters: by part of the model. trainable: those that would learn.
        sequence_steps: of the trunk on sequences. steps: of the head, in all epochs. title_steps, writing_steps: of
        what writes titles, on the catalogue's titles and on rows. seconds_per_step: of the head, measured. minutes: for
        all steps, without validation, without trials of K and of the guidance.
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
    title_steps: int
    writing_steps: int
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
    if model.n_factors is None:
        tried = factor_choice.TRIED
        model = replace(model, n_factors=max(tried))
        n_factors = f"{max(tried)}: the largest of {', '.join(map(str, tried))}, of which trials would choose"
    set_seed(train.seed)
    setup = set_up(data, model, train, hold_out=refit is None, progress=progress)
    recommender = setup.recommender
    head, sequences = _time_head(setup, train), _time_sequences(setup, train)
    titles, writing = _time_writer(setup, train)
    sample = recommender.encode(setup.rows.select(slice(0, 256)), training=False)
    network = recommender.model
    parts: dict[str, nn.Module] = {
        "backbone": network.encoder.trunk.lm,
        "reasoner": network.reasoner,
        "head": recommender.head,
    }
    return TrainPlan(
        examples=describe_rows(recommender, setup.rows.select(slice(0, 2))),
        n_factors=n_factors,
        tuning=setup.tuning,
        rows=len(setup.rows),
        positions=network.encoder.positions(sample.inputs).shape[1] + model.latent_tokens,
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        trainable=sum(parameter.numel() for parameter in head.learners | sequences.learners | setup.writers),
        sequence_steps=sequences.steps,
        steps=head.steps,
        title_steps=titles.steps,
        writing_steps=writing.steps,
        seconds_per_step=head.seconds,
        minutes=sum(stage.steps * stage.seconds for stage in (head, sequences, titles, writing)) / 60,
        peak_memory_mb=peak_memory_mb(),
    )


def describe_rows(recommender: TrainableRecommender, rows: HistoryRows) -> list[str]:
    """Write rows as the model reads them: the tokens of `text`, or the titles of the positions of `items`."""
    titles = recommender.catalog.texts.tolist()
    inputs = recommender.encode(rows, training=False).inputs
    read = recommender.model.encoder.describe(inputs, titles)
    return [f"{history} -> {titles[target]}" for history, target in zip(read, rows.target, strict=True)]


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MiB; NaN where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


class Timed(NamedTuple):
    """A stage of training: what learns in it, its number of steps, and the seconds of one."""

    learners: set[nn.Parameter]
    steps: int
    seconds: float


def _time_head(setup: Setup, train: TrainConfig) -> Timed:
    objective = SftObjective(setup.recommender, train)
    learners = {parameter for parameter in objective.parameters() if parameter.requires_grad}
    samples, batch_size = Samples.of_rows(setup.recommender, setup.rows), train.batch_size * train.grad_accumulation
    seconds = _seconds_per_step(objective, samples, batch_size)
    return Timed(learners, train.max_steps or math.ceil(samples.n / batch_size) * setup.epochs, seconds)


def _time_sequences(setup: Setup, train: TrainConfig) -> Timed:
    if setup.tuning != "sequences":
        return Timed(set(), 0, 0.0)
    learners = sequence_learners(setup.recommender)
    samples = sequence_samples(setup.recommender, setup.rows)
    batch_size = PIECES_PER_STEP * train.grad_accumulation
    with learning(setup.recommender, learners):
        seconds = _seconds_per_step(SequenceObjective(setup.recommender), samples, batch_size)
    return Timed(learners, train.max_steps or math.ceil(samples.n / batch_size) * train.sequence_epochs, seconds)


def _time_writer(setup: Setup, train: TrainConfig) -> tuple[Timed, Timed]:
    """Time what writes titles: on the catalogue's titles, and on rows."""
    if not setup.writers:
        return Timed(set(), 0, 0.0), Timed(set(), 0, 0.0)
    stages = titles_stage(setup.recommender, train), rows_stage(setup.recommender, setup.rows, train)
    timed = []
    for stage in stages:
        schedule = stage.schedule
        with learning(stage.objective, setup.writers):
            batch_size = schedule.batch_size * schedule.grad_accumulation
            seconds = _seconds_per_step(stage.objective, stage.samples, batch_size)
        timed.append(Timed(setup.writers, schedule.max_steps or 0, seconds))
    return timed[0], timed[1]


def _seconds_per_step(objective: Learner, samples: Samples, batch_size: int) -> float:
    """Return the seconds of one step: forward and backward passes, the first as a warm-up."""
    device = best_device()
    objective.to(device)
    durations = []
    for step in range(TIMED_STEPS):
        batch = samples.batch(np.arange(step * batch_size, (step + 1) * batch_size) % samples.n)
        began = time.perf_counter()
        loss = objective(send_to_device(batch, device))["loss"]
        loss.backward()
        loss.item()
        durations.append(time.perf_counter() - began)
    return min(durations[1:])
