"""The language model that writes learns: an item's title from its vector, then what the factors expect of a history.

The factors are trained before and stay as they are (docs/method.md, "Title decoder").

Shapes: B items or rows, D width of item vectors.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.arrays import Ints
from flr_model.config import TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.reader import eval_mode
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.nn.title_head import TitleHead
from flr_model.nn.title_writer import TitleBatch
from flr_model.progress import Progress
from flr_model.training.learner import Learner
from flr_model.training.sequences import learning
from flr_model.training.tracking import Tracking
from flr_model.training.trainer import Rate, Rates, Samples, Schedule, StageTrainer, rates_of

logger = logging.getLogger(__name__)

NOISE = (0.5, 6.0)
"""Lengths of the noise on an item's vector of length one, from near it to as far as a history is from the next item."""

TITLES_PER_STEP, ROWS_PER_STEP = 256, 32

MOST_ROWS = 20_000
"""Rows that are written on unless more are asked for: with the default backbone three quarters of an hour of a core."""

CHECKPOINTS = 4
"""Of the one pass over rows."""

TITLES_RATE = 3.0
"""Learning rate of the language model on titles, as a multiple of the one on rows."""


class ItemsBatch(NamedTuple):
    """B items: their positions (B,) and their titles."""

    item: Tensor
    titles: TitleBatch


class TitlesObjective(Learner):
    """Cross-entropy of an item's title after a latent token that spells the item's vector, with noise, and no history.

    Args:
        recommender: whose head writes titles.
    """

    def forward(self, batch: ItemsBatch) -> dict[str, Tensor]:
        """Return the loss of a batch of items."""
        writer = _head(self.recommender).writer
        vectors = self.recommender.items.unit_vectors[batch.item]
        low, high = map(math.log, NOISE)
        length = torch.empty_like(vectors[:, :1]).uniform_(low, high).exp()
        noisy = F.normalize(vectors + length * torch.randn_like(vectors) / math.sqrt(vectors.shape[1]), dim=-1)
        likelihood, _ = writer.likelihood(writer.empty_prompt(len(vectors)), noisy[:, None], batch.titles)
        return {"loss": -likelihood.mean()}


class RowsObjective(Learner):
    """Cross-entropy of a title that the factors expect of a history: that of an expected item, drawn by its weight.

    The language model learns from the factors. The next items themselves are too few to learn to write from
    (docs/lab.md). Only the title's tokens count, not the prompt's.

    Args:
        recommender: whose head writes titles.
    """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch of rows."""
        recommender, head = self.recommender, _head(self.recommender)
        with torch.no_grad(), eval_mode(recommender.model, recommender.head):
            reading = recommender.read(batch.inputs)
            expected = head.expect(recommender.items, reading, batch.targets)
        drawn = expected.items.gather(1, expected.weights.multinomial(1))[:, 0]
        prompt = head.writer.read(reading.batch)
        likelihood, _ = head.writer.likelihood(prompt, expected.vectors[:, None], head.titles_of(drawn))
        return {"loss": -likelihood.mean()}


class WritingStage(NamedTuple):
    """One of the two stages in which a language model learns to write: what it learns, from what, and how."""

    name: str
    objective: Learner
    samples: Samples
    rates: Rates
    schedule: Schedule


def titles_stage(recommender: TrainableRecommender, config: TrainConfig) -> WritingStage:
    """Return the first stage: the catalogue's titles, whatever the factors are."""
    return WritingStage(
        "titles",
        TitlesObjective(recommender),
        _titles(recommender),
        {
            **rates_of(config, backbone=TITLES_RATE),
            "projection": Rate(config.learning_rate, config.weight_decay),
        },
        _schedule(config, TITLES_PER_STEP, len(recommender.items), passes=config.title_epochs),
    )


def rows_stage(recommender: TrainableRecommender, rows: HistoryRows, config: TrainConfig) -> WritingStage:
    """Return the second stage: what the factors, which are trained, expect of the histories of training rows."""
    if config.writing_rows is None and len(rows) > MOST_ROWS:
        logger.info(
            "--writing-rows %s: of %s training rows, drawn, the backbone learns to write from so many",
            f"{MOST_ROWS:,}",
            f"{len(rows):,}",
        )
    schedule = _schedule(config, ROWS_PER_STEP, config.writing_rows or min(len(rows), MOST_ROWS))
    return WritingStage(
        "rows",
        RowsObjective(recommender),
        Samples.of_rows(recommender, rows, "rows written"),
        rates_of(config),
        replace(schedule, save_steps=max((schedule.max_steps or 0) // CHECKPOINTS, 1)),
    )


def learn_to_write(
    stage: WritingStage,
    learners: set[nn.Parameter],
    *,
    folder: Path,
    resume: bool,
    progress: Progress,
    tracking: Tracking = Tracking(),
) -> None:
    """Train the language model that writes titles in one stage.

    Args:
        stage: one without steps is left out.
        learners: the parameters that may learn; nothing else does.
        folder: for checkpoints, in a folder of the stage's name.
        resume: go on from the newest checkpoint.
        progress: is told of every step.
        tracking: where its figures go besides.
    """
    if not stage.schedule.max_steps:
        return
    trainer = StageTrainer(
        stage.objective,
        stage.samples,
        validate=None,
        rates=stage.rates,
        schedule=stage.schedule,
        folder=folder / stage.name,
        progress=progress,
        tracking=tracking,
        stage=stage.name,
    )
    with learning(stage.objective, learners):
        trainer.run(resume=resume)


def _schedule(config: TrainConfig, batch_size: int, n: int, passes: int = 1) -> Schedule:
    """Return a schedule of passes over n samples in batches; a tenth of the steps at most warms up."""
    schedule = Schedule.of(config)
    steps = passes * -(-n // (batch_size * schedule.grad_accumulation))
    return replace(
        schedule,
        batch_size=batch_size,
        max_steps=min(steps, schedule.max_steps or steps),
        warmup_steps=min(schedule.warmup_steps, steps // 10),
        patience=None,
    )


def _head(recommender: TrainableRecommender) -> TitleHead:
    return cast(TitleHead, recommender.head)


def _titles(recommender: TrainableRecommender) -> Samples:
    """Return the catalogue's titles as samples."""

    def batch(numbers: Ints) -> ItemsBatch:
        item = torch.from_numpy(numbers)
        return ItemsBatch(item, _head(recommender).titles_of(item))

    return Samples(len(recommender.items), batch, "titles")
