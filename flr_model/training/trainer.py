"""The one training loop: transformers.Trainer with our batches, our groups of parameters and our validation.

The Trainer brings resume, mixed precision, accumulation, several GPUs and early stopping.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import send_to_device
from torch.utils.data import Dataset as TorchDataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging

from flr_model.arrays import Ints
from flr_model.config import TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.parameter_groups import Group, check_groups
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.progress import SILENT, Progress, Task
from flr_model.training.learner import Learner

logger = logging.getLogger(__name__)

RESIDUAL_DECAY = 0.1
"""Weight decay of the items' residuals: single items have few rows to learn from."""

BEST = "eval_NDCG@10"

Validate = Callable[[], dict[str, float]]


class Rate(NamedTuple):
    """How a group of parameters learns."""

    learning_rate: float
    weight_decay: float


Rates = Mapping[Group, Rate]


def rates_of(train: TrainConfig) -> Rates:
    """Return the rates of a configuration; scalars and vectors have no decay."""
    decay = train.weight_decay
    return {
        "item_maps": Rate(train.learning_rate, decay),
        "item_residuals": Rate(train.residual_learning_rate, RESIDUAL_DECAY),
        "reasoner": Rate(train.reasoner_learning_rate, decay),
        "projection": Rate(train.reasoner_learning_rate, decay),
        "scalars": Rate(train.scalar_learning_rate, 0.0),
        "backbone": Rate(train.backbone_learning_rate, decay),
        "backbone_vectors": Rate(train.backbone_learning_rate, 0.0),
    }


@dataclass(frozen=True)
class Schedule:
    """How long and in what steps to train; without ``max_steps``, by epochs."""

    epochs: int | None
    max_steps: int | None
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
        batch: from (B,) numbers below n to what the objective takes: tensors, in named tuples that may be nested.
        unit: what they are called.
    """

    n: int
    batch: Callable[[Ints], NamedTuple]
    unit: str = "rows"

    @classmethod
    def of_rows(cls, recommender: TrainableRecommender, rows: HistoryRows) -> Samples:
        """Return rows of histories, encoded by a recommender; a batch has the ``numbers`` of its rows too."""

        def batch(numbers: Ints) -> Batch:
            encoded = recommender.encode(rows.select(numbers), training=True)
            return encoded._replace(numbers=torch.from_numpy(numbers))

        return cls(len(rows), batch)


def processes(folder: Path) -> PartialState:
    """Return the processes of this training, connected as the Trainer connects them; ``folder`` is not written."""
    arguments = TrainingArguments(output_dir=str(folder), report_to=[])
    _ = arguments.device  # connects them
    state: PartialState = arguments.distributed_state
    return state


class StageTrainer(Trainer):  # type: ignore[misc]
    """Trains an objective over samples.

    Args:
        objective: its ``forward(batch)`` returns a dictionary with ``loss``, and it names its parameters' groups.
        samples: to train on.
        validate: returns metrics, among them NDCG@10; None trains without validation.
        rates: of each group that learns.
        schedule: length and steps.
        folder: for checkpoints.
        progress: is told of every step.
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
    ) -> None:
        def collate(numbers: list[int]) -> dict[str, NamedTuple]:
            return {"batch": samples.batch(np.asarray(numbers, np.int64))}

        self.objective = objective
        self.validate = validate
        self.rates = rates
        self._reporter = ProgressReporter(progress, schedule, samples.unit)
        callbacks: list[TrainerCallback] = [self._reporter]
        if validate is not None and schedule.patience is not None:
            callbacks.append(EarlyStoppingCallback(schedule.patience))
        super().__init__(
            model=objective,
            args=_arguments(schedule, folder, validating=validate is not None),
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
        """Train, from the newest checkpoint when ``resume`` and there is one."""
        last = get_last_checkpoint(self.args.output_dir) if resume and Path(self.args.output_dir).is_dir() else None
        set_seed(self.args.seed)
        with self._reporter, _only_errors():  # a frozen backbone is missing from checkpoints on purpose
            self.train(resume_from_checkpoint=last)


class ProgressReporter(TrainerCallback, ExitStack):  # type: ignore[misc]
    """Passes steps and losses to a task of a `Progress`, which ends with the reporter's block."""

    def __init__(self, progress: Progress, schedule: Schedule, unit: str) -> None:
        super().__init__()
        self._progress = progress
        self._task: Task = SILENT
        self._unit = unit
        self._per_step = schedule.batch_size * schedule.grad_accumulation
        self._figures: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start with the steps that a resumed run has behind it."""
        self._task = self.enter_context(self._progress.task(state.max_steps * self._per_step, self._unit))
        self._task.advance(state.global_step * self._per_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count one step."""
        self._task.advance(self._per_step, **self._figures)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Remember the newest loss and validation metric."""
        for name, shown in (("loss", "loss"), (BEST, "valid NDCG@10")):
            if logs and name in logs:
                self._figures[shown] = float(logs[name])
        if logs and BEST in logs:
            logger.info("epoch %.0f: validation NDCG@10 %.4f, HR@10 %.4f", state.epoch, logs[BEST], logs["eval_HR@10"])


@contextmanager
def _only_errors() -> Iterator[None]:
    """Keep the Trainer's warnings from the person."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _arguments(schedule: Schedule, folder: Path, *, validating: bool) -> TrainingArguments:
    cuda = torch.cuda.is_available()
    precision = schedule.precision
    if precision == "auto":
        precision = "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"
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
