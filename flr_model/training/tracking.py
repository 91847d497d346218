"""Where the figures of a training go besides the terminal: TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flr_model.errors import MissingExtraError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracking:
    """What the Trainer is told of ``--report-to``.

    Args:
        library: tensorboard, mlflow, wandb or none.
        folder: for TensorBoard's files; beside the run, since a run is there only when it is finished.
    """

    library: str = "none"
    folder: Path = Path()

    @classmethod
    def of(cls, library: str, out: Path) -> Tracking:
        """Return the tracking of a run, and say where its figures go.

        Raises:
            MissingExtraError: if the library is not installed.
        """
        tracking = cls(library, out.with_name(f"{out.name}.logs"))
        if library == "none":
            return tracking
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library)
        if library == "wandb":
            os.environ.setdefault("WANDB_MODE", "offline")
        where = {
            "tensorboard": f"tensorboard --logdir {tracking.folder}",
            "mlflow": f"MLflow at {os.environ.get('MLFLOW_TRACKING_URI', 'its default place')} (MLFLOW_TRACKING_URI)",
            "wandb": f"Weights & Biases, {os.environ.get('WANDB_MODE')} (WANDB_MODE)",
        }
        logger.info("figures of the training (--report-to): %s", where[library])
        return tracking

    def arguments(self, stage: str) -> dict[str, Any]:
        """Return the arguments for transformers of one stage of the training, which is a run there."""
        return {
            "report_to": self.library,
            "logging_dir": str(self.folder / stage),
            "run_name": f"{self.folder.stem}-{stage}",
        }
