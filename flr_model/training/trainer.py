"""The one training loop: transformers.Trainer with our batches, our groups of parameters and our validation.

The Trainer brings resume, mixed precision, accumulation, several GPUs and early stopping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch.utils.data import Dataset as TorchDataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
)

from flr_model.arrays import Ints
from flr_model.config import TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.parameter_groups import Group, check_groups
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.progress import Progress
from flr_model.training.checkpoints import CheckpointedTrainer, CheckpointSeal
from flr_model.training.learner import Learner
from flr_model.training.reporter import BEST, ProgressReporter
from flr_model.training.tracking import Tracking

RESIDUAL_DECAY = 0.1
"""Weight decay of the items' residuals: single items have few rows to learn from."""

Validate = Callable[[], dict[str, float]]


class Rate(NamedTuple):
    """How a group of parameters learns."""

    learning_rate: float
    weight_decay: float


Rates = Mapping[Group, Rate]


def rates_of(train: TrainConfig, *, backbone: float = 1.0) -> Rates:
    """Return the rates of a configuration, that of the backbone times a factor; scalars and vectors have no decay."""
    decay, of_backbone = train.weight_decay, backbone * train.backbone_learning_rate
    return {
        "item_maps": Rate(train.learning_rate, decay),
        "item_residuals": Rate(train.residual_learning_rate, RESIDUAL_DECAY),
        "reasoner": Rate(train.reasoner_learning_rate, decay),
        "projection": Rate(train.reasoner_learning_rate, decay),
        "scalars": Rate(train.scalar_learning_rate, 0.0),
        "backbone": Rate(of_backbone, decay),
        "backbone_vectors": Rate(of_backbone, 0.0),
    }


@dataclass(frozen=True)
class Schedule:
    """How long and in what steps to train; without ``max_steps``, by epochs, without ``save_steps`` saved by them."""

    epochs: int | None
    max_steps: int | None
    batch_size: int
    grad_accumulation: int
    warmup_steps: int
    patience: int | None
    precision: str
    seed: int
    save_steps: int | None = None

    @classmethod
    def of(cls, train: TrainConfig) -> Schedule:
        """Return the length and the steps of a configuration."""
        return cls(
            epochs=train.epochs,
            max_steps=train.max_steps,
            batch_size=train.batch_size,
            grad_accumulation=train.grad_accumulation,
            warmup_steps=train.warmup_steps,
            patience=train.patience,
            precision=train.precision,
            seed=train.seed,
        )


class Numbers(TorchDataset[int]):
    """The numbers 0..n-1: a batch is made from all its samples at once, by the collator."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


@dataclass(frozen=True)
class Samples:
    """What to train on: n samples, and how a batch is made of some of them.

    Args:
        n: how many.
        batch: from (B,) numbers below n to what the objective takes: tensors, in named tuples that may be nested.
        unit: what they are called.
    """

    n: int
    batch: Callable[[Ints], NamedTuple]
    unit: str = "rows"

    @classmethod
    def of_rows(cls, recommender: TrainableRecommender, rows: HistoryRows, unit: str = "rows") -> Samples:
        """Return rows of histories, encoded by a recommender; a batch has the ``numbers`` of its rows too."""

        def batch(numbers: Ints) -> Batch:
            encoded = recommender.encode(rows.select(numbers), training=True)
            return encoded._replace(numbers=torch.from_numpy(numbers))

        return cls(len(rows), batch, unit)


class StageTrainer(CheckpointedTrainer):
    """Trains an objective over samples.

    Args:
        objective: its ``forward(batch)`` returns a dictionary with ``loss``, and it names its parameters' groups.
        samples: to train on.
        validate: returns metrics, among them NDCG@10; None trains without validation.
        rates: of each group that learns.
        schedule: length and steps.
        folder: for checkpoints.
        progress: is told of every step.
        tracking: where its figures go besides.
        stage: its name there.
    """

    def __init__(
        self,
        objective: Learner,
        samples: Samples,
        *,
        validate: Validate | None,
        rates: Rates,
        schedule: Schedule,
        folder: Path,
        progress: Progress,
        tracking: Tracking = Tracking(),
        stage: str = "head",
    ) -> None:
        def collate(numbers: list[int]) -> dict[str, NamedTuple]:
            return {"batch": samples.batch(np.asarray(numbers, np.int64))}

        self.objective = objective
        self.validate = validate
        self.rates = rates
        per_step = schedule.batch_size * schedule.grad_accumulation
        self._tracking = tracking
        self._reporter = ProgressReporter(progress, per_step=per_step, unit=samples.unit)
        callbacks: list[TrainerCallback] = [self._reporter, CheckpointSeal()]
        if validate is not None and schedule.patience is not None:
            callbacks.append(EarlyStoppingCallback(schedule.patience))
        super().__init__(
            model=objective,
            args=_arguments(schedule, folder, tracking.arguments(stage), validating=validate is not None),
            train_dataset=Numbers(samples.n),
            eval_dataset=Numbers(0) if validate is not None else None,  # `evaluate` ranks rows of its own
            data_collator=collate,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.model_accepts_loss_kwargs = False

    def create_optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW with the groups that the objective names, each at its own rate; frozen parameters are left out."""
        groups, rates = self.objective.parameter_groups(), self.rates
        check_groups(self.objective, groups)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": learning, "lr": rates[group].learning_rate, "weight_decay": rates[group].weight_decay}
                for group, parameters in groups.items()
                if (learning := [parameter for parameter in parameters if parameter.requires_grad])
            ]
        )
        self.args.learning_rate = self.optimizer.param_groups[0]["lr"]  # as tracked; not a default that nobody uses
        return self.optimizer

    def _prepare_inputs(self, inputs: dict[str, NamedTuple]) -> dict[str, NamedTuple]:
        """Move a batch to the device; the Trainer's own knows no named tuples."""
        moved: dict[str, NamedTuple] = send_to_device(inputs, self.args.device)
        return moved

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate by full ranking, and tell the callbacks."""
        assert self.validate is not None
        metrics = {f"eval_{name}": value for name, value in self.validate().items()}
        self.log({**metrics, "epoch": self.state.epoch or 0.0})
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def run(self, *, resume: bool) -> None:
        """Train (see `CheckpointedTrainer.run`); progress and tracking end with it, also by an error."""
        with self._reporter, self._tracking.one_run():
            super().run(resume=resume)


def _arguments(schedule: Schedule, folder: Path, tracking: dict[str, Any], *, validating: bool) -> TrainingArguments:
    cuda = torch.cuda.is_available()
    precision = schedule.precision
    if precision == "auto":
        precision = "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "bf16" and not cuda:  # then the backbone alone (`flr_model.training.tuning.trunk_in_bf16`)
        precision = "fp32"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=schedule.epochs or 0,
        max_steps=schedule.max_steps or -1,
        per_device_train_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.grad_accumulation,
        lr_scheduler_type="cosine",
        warmup_steps=schedule.warmup_steps,
        max_grad_norm=1.0,
        seed=schedule.seed,
        data_seed=schedule.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        eval_strategy="epoch" if validating else "no",
        save_strategy="epoch" if schedule.save_steps is None else "steps",
        save_steps=schedule.save_steps or 0,
        save_total_limit=2,
        load_best_model_at_end=validating,
        metric_for_best_model=BEST if validating else None,
        greater_is_better=True if validating else None,
        logging_steps=10,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda,
        disable_tqdm=True,
        label_names=[],
        **tracking,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs go through `accelerate launch`, never DataParallel
    return arguments
