"""Where the figures of a training go besides the terminal: TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flr_model.errors import ConfigError, MissingExtraError

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
            ConfigError: if MLflow cannot write where it is told to.
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
        if library == "mlflow":
            _open_mlflow(where[library])
        logger.info("figures of the training (--report-to): %s", where[library])
        return tracking

    def arguments(self, stage: str) -> dict[str, Any]:
        """Return the arguments for transformers of one stage of the training, which is a run there."""
        return {
            "report_to": self.library,
            "logging_dir": str(self.folder / stage),
            "run_name": f"{self.folder.stem}-{stage}",
        }

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """End the stage's run with the block; transformers leaves that of Weights & Biases to the next stage."""
        if self.library != "wandb":
            yield
            return
        wandb = importlib.import_module("wandb")
        try:
            yield
        except BaseException:
            wandb.finish(exit_code=1)
            raise
        wandb.finish()


def _open_mlflow(where: str) -> None:
    """Open the place of the figures before any work, not after the titles are read."""
    mlflow = importlib.import_module("mlflow")
    try:
        mlflow.MlflowClient().search_experiments(max_results=1)
    except mlflow.exceptions.MlflowException as error:
        raise ConfigError(
            f"--report-to mlflow: {where} cannot be used: {str(error).splitlines()[0]}",
            hint="set MLFLOW_TRACKING_URI to another place, for instance sqlite:///mlflow.db",
        ) from None
