"""Alignment: from a run to one whose policy has learned from rewards, if that ranks the validation rows better.

What is rewarded, and what learns, is in `flr_model.training.policies`.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from transformers import set_seed

from flr_model.artifacts import RUN
from flr_model.config import AlignConfig, TrainConfig
from flr_model.config_io import build, current, dump_toml
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import DataError
from flr_model.evaluation.validation import validation_rows, validator
from flr_model.nn.device import best_device
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.run import Run, load_run
from flr_model.progress import SILENT, Progress
from flr_model.training.policies import policy_of
from flr_model.training.setup import trainable
from flr_model.training.state_cache import StateCache
from flr_model.training.tracking import Tracking
from flr_model.training.trainer import Rate, Samples, Schedule, StageTrainer, Validate
from flr_model.writing import Claim, claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignReport:
    """What alignment did.

    Args:
        run: the folder written.
        kept: "aligned" or "sft": which weights the folder holds (alignment must do no harm).
        before, after: validation metrics of the SFT and of the aligned weights.
        rows: users' rows aligned on. steps: optimisation steps. seconds: wall-clock time of the loop.
    """

    run: str
    kept: str
    before: dict[str, float]
    after: dict[str, float]
    rows: int
    steps: int
    seconds: float


def align(
    run_folder: Path,
    out: Path,
    *,
    align: AlignConfig,
    data: Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> AlignReport:
    """Align a run and write another one.

    Args:
        run_folder: run to start from.
        out: run folder to write.
        align: settings.
        data: dataset folder, if it is not where the run says.
        overwrite: replace ``out``.
        progress: is told of steps and rewards.

    Raises:
        ArtifactError, ConfigError, DataError: if something given cannot be used.
    """
    with claim(out, RUN.kind, inputs=(run_folder, data), overwrite=overwrite) as place:
        return _align(run_folder, out, place, align=align, data=data, progress=progress)


def _align(
    run_folder: Path, out: Path, place: Claim, *, align: AlignConfig, data: Path | None, progress: Progress
) -> AlignReport:
    """Do the work of `align` while its place is claimed."""
    tracking = Tracking.of(align.report_to, out)
    run = load_run(run_folder)
    dataset = Dataset.of(run.manifest, data)
    train, valid = dataset.rows("train"), dataset.rows("valid")
    if not len(train) or not len(valid):
        raise DataError(f"{dataset.folder} has no rows to align on or to validate with")
    set_seed(align.seed)
    recommender = trainable(run, train).to(best_device())
    by_time = np.argsort(train.target_time, kind="stable")
    rows = train.select(np.sort(by_time[-(align.max_rows or len(train)) :]))
    ranker = recommender.recommender
    valid = validation_rows(valid, align.valid_rows, searched=not ranker().scores_items)
    validate = validator(ranker, valid, progress=progress)
    before = validate()
    sft = copy.deepcopy(recommender.model.state_dict())
    began = time.perf_counter()
    with place.scratch() as folder:
        steps = optimise(recommender, rows, align, validate, folder=folder, progress=progress, tracking=tracking)
    after = validate()
    kept = "aligned" if after["NDCG@10"] > before["NDCG@10"] else "sft"
    if kept == "sft":
        logger.warning("alignment did not improve validation NDCG@10: the SFT weights are kept")
        recommender.model.load_state_dict(sft)
    seconds = time.perf_counter() - began
    report = AlignReport(str(out), kept, before, after, rows=len(rows), steps=steps, seconds=seconds)
    with place.folder() as temporary:
        _write(temporary, run, run_folder, dataset, align, report)
    return report


def optimise(
    recommender: TrainableRecommender,
    rows: HistoryRows,
    config: AlignConfig,
    validate: Validate | None,
    *,
    folder: Path,
    progress: Progress,
    tracking: Tracking = Tracking(),
) -> int:
    """Align the policy of a recommender in place, and keep the best epoch's weights.

    Args:
        recommender: trained.
        rows: to align on.
        config: of the policy and its rewards.
        validate: ranks validation rows; None keeps the last weights.
        folder: for checkpoints.
        progress: is told of every step.
        tracking: where its figures go besides.

    Returns:
        The number of steps.
    """
    rate = Rate(config.learning_rate, weight_decay=0.0)
    policy = policy_of(recommender, config, StateCache(recommender, rows, config.cache_mb, progress=progress))
    trainer = StageTrainer(
        policy,
        Samples.of_rows(recommender, rows),
        validate=validate,
        rates=dict.fromkeys(("reasoner", "item_maps", "scalars"), rate),
        schedule=Schedule(
            epochs=config.epochs,
            max_steps=config.max_steps,
            batch_size=config.batch_size,
            grad_accumulation=1,
            warmup_steps=config.warmup_steps,
            patience=None,
            precision="fp32",
            seed=config.seed,
        ),
        folder=folder,
        progress=progress,
        tracking=tracking,
        stage="alignment",
    )
    trainer.run(resume=False)
    for flag, value in policy.adapted().items():
        logger.info("%s auto ended at %.3g", flag, value)
    return int(trainer.state.global_step)


def _write(folder: Path, run: Run, source: Path, dataset: Dataset, align: AlignConfig, report: AlignReport) -> None:
    facts = {"stage": "align", "align": vars(report), "dataset": str(dataset.folder.resolve())}
    manifest = replace(
        run.manifest,
        settings={**run.manifest.settings, align.table: align.as_dict()},
        content={**run.manifest.content, **facts},
        source=str(source),
    )
    configs = [run.config, build(TrainConfig, current(run.manifest.settings)["train"]), align]
    replace(run, manifest=manifest).write(folder, dump_toml(configs))
