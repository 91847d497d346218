"""Titles before rows: the backbone learns to write an item's title from its vector (docs/method.md, "Title decoder").

Shapes: B items, D width of item vectors, P places of the prompt without a history.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from flr_model.arrays import Ints
from flr_model.config import TrainConfig
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.title_decoder import TitleBatch
from flr_model.progress import Progress
from flr_model.training.learner import Learner
from flr_model.training.sequences import learning
from flr_model.training.tracking import Tracking
from flr_model.training.trainer import Rate, Samples, Schedule, StageTrainer, rates_of

NOISE = (0.5, 6.0)
"""Lengths of the noise on an item's vector of length one, from near it to as far as a history is from the next item."""

TITLES_PER_STEP = 256

TITLES_RATE = 3.0
"""Learning rate of the backbone here, as a multiple of the one on rows."""


class WarmupBatch(NamedTuple):
    """B items: their positions (B,) and their titles."""

    item: Tensor
    titles: TitleBatch


class TitleWarmup(Learner):
    """Cross-entropy of an item's title after a latent token that spells the item's vector, with noise, and no history.

    Args:
        recommender: what learns; its head writes titles.
    """

    def forward(self, batch: WarmupBatch) -> dict[str, Tensor]:
        """Return the loss of a batch of items."""
        vectors = self.recommender.items.unit_vectors[batch.item]
        low, high = map(math.log, NOISE)
        length = torch.empty_like(vectors[:, :1]).uniform_(low, high).exp()
        wish = F.normalize(vectors + length * torch.randn_like(vectors) / math.sqrt(vectors.shape[1]), dim=-1)
        return {"loss": self.recommender.head.title_loss(self.recommender.model, wish, batch.titles)}


def learn_titles(
    recommender: TrainableRecommender,
    config: TrainConfig,
    *,
    folder: Path,
    resume: bool,
    progress: Progress,
    tracking: Tracking = Tracking(),
) -> None:
    """Train the backbone and the decoder on the catalogue's titles; the guide and the reasoner stay as they are.

    Args:
        recommender: whose backbone learns; its head writes titles.
        config: passes and rates.
        folder: for checkpoints.
        resume: go on from the newest checkpoint.
        progress: is told of every step.
        tracking: where its figures go besides.
    """
    if not config.title_epochs:
        return

    def batch(numbers: Ints) -> WarmupBatch:
        item = torch.from_numpy(numbers)
        return WarmupBatch(item, recommender.head.titles_of(item))

    steps = config.title_epochs * -(-len(recommender.items) // TITLES_PER_STEP)
    trainer = StageTrainer(
        TitleWarmup(recommender),
        Samples(len(recommender.items), batch, "titles"),
        validate=None,
        rates={
            **rates_of(config, backbone=TITLES_RATE),
            "projection": Rate(config.learning_rate, config.weight_decay),
        },
        schedule=replace(
            Schedule.of(config),
            epochs=config.title_epochs,
            batch_size=TITLES_PER_STEP,
            warmup_steps=min(config.warmup_steps, steps // 10),
            patience=None,
        ),
        folder=folder,
        progress=progress,
        tracking=tracking,
        stage="titles",
    )
    writers = [*recommender.model.encoder.trunk.parameters(), *recommender.head.writers()]
    with learning(recommender, {weight for weight in writers if weight.requires_grad}):
        trainer.run(resume=resume)
