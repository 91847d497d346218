"""The one training loop: transformers.Trainer with our batches, our groups of parameters and our validation.

The Trainer brings resume, mixed precision, accumulation, several GPUs and early stopping.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from torch import nn
from torch.utils.data import Dataset as TorchDataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
)

from flr_model.config import TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.progress import Progress
from flr_model.training.checkpoints import CheckpointedTrainer, CheckpointSeal

logger = logging.getLogger(__name__)

SCALAR_LIMIT = 200
"""Parameters with fewer numbers than this (slopes, scales, kernels) learn at their own rate, without decay."""

RESIDUAL_DECAY = 0.1
"""Weight decay of the items' residuals: single items have few rows to learn from."""

BEST = "eval_NDCG@10"

Validate = Callable[[], dict[str, float]]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rates:
    """Learning rates by group of parameters, and the decay of matrices.

    items: maps and scales in item space. residuals: of single items. reasoner: all that reads the backbone's states.
    scalars: slopes, scales, kernels. backbone: the language model.
    """

    items: float
    residuals: float
    reasoner: float
    scalars: float
    backbone: float
    weight_decay: float

    @classmethod
    def of(cls, train: TrainConfig) -> Rates:
        """Return the rates of a configuration."""
        return cls(
            items=train.learning_rate,
            residuals=train.residual_learning_rate,
            reasoner=train.reasoner_learning_rate,
            scalars=train.scalar_learning_rate,
            backbone=train.backbone_learning_rate,
            weight_decay=train.weight_decay,
        )


@dataclass(frozen=True)
class Schedule:
    """How long and in what steps to train; a value of 0 in ``max_steps`` means by epochs."""

    epochs: int
    max_steps: int
    batch_size: int
    grad_accumulation: int
    warmup_steps: int
    patience: int | None
    precision: str
    seed: int

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
        batch: from (B,) numbers below n to the keyword arguments of the objective.
        unit: what they are called.
    """

    n: int
    batch: Callable[[Ints], Batch]
    unit: str = "rows"

    @classmethod
    def of_rows(cls, recommender: TrainableRecommender, rows: HistoryRows) -> Samples:
        """Return rows of histories, encoded by a recommender; a batch has the ``numbers`` of its rows too."""

        def batch(numbers: Ints) -> Batch:
            encoded = recommender.encode(rows.select(numbers), training=True)
            return {**encoded, "numbers": torch.from_numpy(numbers)}

        return cls(len(rows), batch)


def processes(folder: Path) -> PartialState:
    """Return the processes of this training, connected as the Trainer connects them; ``folder`` is not written."""
    arguments = TrainingArguments(output_dir=str(folder), report_to=[])
    _ = arguments.device  # connects them
    state: PartialState = arguments.distributed_state
    return state


class StageTrainer(CheckpointedTrainer):
    """Trains an objective over samples.

    Args:
        objective: a module whose ``forward(**batch)`` returns a dictionary with ``loss``.
        samples: to train on.
        validate: returns metrics, among them NDCG@10; None trains without validation.
        rates: learning rates.
        schedule: length and steps.
        folder: for checkpoints.
        progress: is told of every step.
    """

    def __init__(
        self,
        objective: nn.Module,
        samples: Samples,
        *,
        validate: Validate | None,
        rates: Rates,
        schedule: Schedule,
        folder: Path,
        progress: Progress,
    ) -> None:
        def collate(numbers: list[int]) -> Batch:
            return samples.batch(np.asarray(numbers, np.int64))

        self.validate = validate
        self.rates = rates
        callbacks: list[TrainerCallback] = [ProgressReporter(progress, schedule, samples.unit), CheckpointSeal()]
        if validate is not None and schedule.patience is not None:
            callbacks.append(EarlyStoppingCallback(schedule.patience))
        super().__init__(
            model=objective,
            args=_arguments(schedule, rates, folder, validating=validate is not None),
            train_dataset=Numbers(samples.n),
            eval_dataset=Numbers(0) if validate is not None else None,  # `evaluate` ranks rows of its own
            data_collator=collate,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.model_accepts_loss_kwargs = False

    def create_optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW with the groups of `Rates`."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(self._group(name, parameter), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
        )
        return self.optimizer

    def _group(self, name: str, parameter: nn.Parameter) -> tuple[float, float]:
        if ".lm." in name:
            return self.rates.backbone, self.rates.weight_decay if parameter.ndim > 1 else 0.0
        if parameter.numel() < SCALAR_LIMIT:
            return self.rates.scalars, 0.0
        if name.endswith("item_residual"):
            return self.rates.residuals, RESIDUAL_DECAY
        of_items = name.endswith(("item_map", "item_scale"))
        return self.rates.items if of_items else self.rates.reasoner, self.rates.weight_decay

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate by full ranking, and tell the callbacks."""
        assert self.validate is not None
        metrics = {f"eval_{name}": value for name, value in self.validate().items()}
        self.log({**metrics, "epoch": self.state.epoch or 0.0})
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class ProgressReporter(TrainerCallback):  # type: ignore[misc]
    """Passes steps and losses to a `Progress`."""

    def __init__(self, progress: Progress, schedule: Schedule, unit: str) -> None:
        self._progress = progress
        self._unit = unit
        self._per_step = schedule.batch_size * schedule.grad_accumulation
        self._figures: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start with the steps that a resumed run has behind it."""
        self._progress.start(state.max_steps * self._per_step, self._unit)
        self._progress.advance(state.global_step * self._per_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count one step."""
        self._progress.advance(self._per_step, **self._figures)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Remember the newest loss and validation metric."""
        for name, shown in (("loss", "loss"), (BEST, "valid NDCG@10")):
            if logs and name in logs:
                self._figures[shown] = float(logs[name])
        if logs and BEST in logs:
            logger.info("epoch %.0f: validation NDCG@10 %.4f, HR@10 %.4f", state.epoch, logs[BEST], logs["eval_HR@10"])

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the job."""
        self._progress.finish()


def _arguments(schedule: Schedule, rates: Rates, folder: Path, *, validating: bool) -> TrainingArguments:
    cuda = torch.cuda.is_available()
    precision = schedule.precision
    if precision == "auto":
        precision = "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=schedule.epochs,
        max_steps=schedule.max_steps or -1,
        per_device_train_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.grad_accumulation,
        learning_rate=rates.items,
        lr_scheduler_type="cosine",
        warmup_steps=schedule.warmup_steps,
        max_grad_norm=1.0,
        seed=schedule.seed,
        data_seed=schedule.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        eval_strategy="epoch" if validating else "no",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=validating,
        metric_for_best_model=BEST if validating else None,
        greater_is_better=True if validating else None,
        logging_steps=10,
        report_to=[],
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda,
        disable_tqdm=True,
        label_names=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs go through `accelerate launch`, never DataParallel
    return arguments
