"""Training goes on: a trained recommender over a larger catalogue and more rows, its trunk as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from flr_model.config import TrainConfig, UpdateConfig
from flr_model.data.catalog import Catalog, MoreOfItems
from flr_model.data.histories import HistoryRows
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.run import Run
from flr_model.progress import Progress
from flr_model.ranking.recommender import Recommender
from flr_model.training.objective import SftObjective
from flr_model.training.trainer import Rates, Samples, Schedule, StageTrainer, rates_of

SHARE = 10
"""Training goes over one in so many of the rows that the run's training would, unless it is told."""

WARMUP = 10
"""At most one in so many of the steps warms up."""

LEARNS = ("item_maps", "item_residuals", "reasoner", "scalars")
"""Groups of parameters that go on; the trunk and the map into it stay."""


def with_new_items(run: Run, catalog: Catalog) -> Recommender:
    """Return what ranks with a run over a catalogue that begins with the run's; new items are known by their titles."""
    n = len(run.catalog)
    texts = None if catalog.more.texts is None else catalog.more.texts[n:]
    details = {name: values[n:] for name, values in catalog.more.details.items()}
    new = MoreOfItems(texts, details)
    return run.recommender().with_items(catalog.item_ids[n:].tolist(), catalog.titles[n:].tolist(), new)


def recent(rows: HistoryRows, train: TrainConfig, limit: int | None) -> HistoryRows:
    """Return the rows of the newest targets: ``limit`` of them, or a tenth of what a training would go over."""
    limit = limit or max(1, len(rows) * (train.epochs or 1) // SHARE)
    by_time = np.argsort(rows.target_time, kind="stable")
    return rows.select(np.sort(by_time[-limit:]))


def slower(rates: Rates, rate: float) -> Rates:
    """Return rates of learning multiplied by one number."""
    return {group: own._replace(learning_rate=rate * own.learning_rate) for group, own in rates.items()}


def go_on(
    recommender: TrainableRecommender,
    rows: HistoryRows,
    train: TrainConfig,
    config: UpdateConfig,
    *,
    folder: Path,
    progress: Progress,
) -> int:
    """Train a recommender further, in place, with checkpoints in a folder; return the number of steps."""
    for part in (recommender.model, recommender.head):
        for group, parameters in part.parameter_groups().items():
            for parameter in parameters:
                parameter.requires_grad_(group in LEARNS)
    steps = config.epochs * -(-len(rows) // (train.batch_size * train.grad_accumulation))
    schedule = replace(
        Schedule.of(train),
        epochs=config.epochs,
        max_steps=None,
        warmup_steps=min(train.warmup_steps, steps // WARMUP),
        patience=None,
        seed=config.seed,
    )
    trainer = StageTrainer(
        SftObjective(recommender, train),
        Samples.of_rows(recommender, rows),
        validate=None,
        rates=slower(rates_of(train), config.rate),
        schedule=schedule,
        folder=folder,
        progress=progress,
    )
    trainer.run(resume=False)
    return int(trainer.state.global_step)


def finished(run: Run, recommender: TrainableRecommender) -> Run:
    """Fold what went on into its final form."""
    with torch.no_grad():
        run.item_encoder.scale.mul_(recommender.items.scale.cpu())
    return replace(run, vectors=recommender.items.frozen(), evidence=recommender.head.evidence.bake())
