"""What a person sees of a training while it runs."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback

from flr_model.progress import SILENT, Progress, Task

logger = logging.getLogger(__name__)

BEST = "eval_NDCG@10"
"""What decides which weights are kept, as the Trainer calls it."""


class ProgressReporter(TrainerCallback, ExitStack):  # type: ignore[misc]
    """Passes steps and losses to a task of a `Progress`, which ends with the reporter's block.

    Args:
        progress: is told of every step.
        per_step: samples of a step.
        unit: what samples are called.
    """

    def __init__(self, progress: Progress, *, per_step: int, unit: str) -> None:
        super().__init__()
        self._progress = progress
        self._task: Task = SILENT
        self._unit = unit
        self._per_step = per_step
        self._figures: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start with the steps that a resumed run has behind it."""
        self._task = self.enter_context(self._progress.task(state.max_steps * self._per_step, self._unit))
        self._task.advance(state.global_step * self._per_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count one step."""
        self._task.advance(self._per_step, **self._figures)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Remember the last loss and validation metric."""
        for name, shown in (("loss", "loss"), (BEST, "valid NDCG@10")):
            if logs and name in logs:
                self._figures[shown] = float(logs[name])
        if logs and BEST in logs:
            logger.info("epoch %.0f: validation NDCG@10 %.4f, HR@10 %.4f", state.epoch, logs[BEST], logs["eval_HR@10"])
