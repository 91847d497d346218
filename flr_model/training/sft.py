"""Supervised fine-tuning: from a dataset folder to a run folder.

Settings, folders, report; the training itself is `flr_model.training.fit`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from flr_model.artifacts import RUN, Manifest, open_folder
from flr_model.config import ModelConfig, TrainConfig
from flr_model.config_io import build, dump_toml, model_config, read_tables
from flr_model.evaluation.validation import validation_rows, validator
from flr_model.nn.run import Run
from flr_model.progress import SILENT, Progress
from flr_model.ranking.recommender import Recommender
from flr_model.training.checkpoints import checkpoint_folder, processes
from flr_model.training.factor_choice import choose_n_factors
from flr_model.training.fit import Fitted, fit
from flr_model.training.reporter import BEST
from flr_model.training.setup import Setup, set_up
from flr_model.training.tracking import Tracking
from flr_model.training.trainer import Validate
from flr_model.training.tuning import merge
from flr_model.writing import Claim, claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainReport:
    """What training did.

    Args:
        run: the folder written.
        tuning: of the backbone: sequences, frozen, lora or full.
        forecast: weight of the trunk's own prediction beside the head's.
        rows: training rows.
        parameters: all of the model.
        trainable: those that learned.
        steps: optimisation steps.
        best_epoch: the epoch whose weights were kept (1 is the first).
        valid: metrics of the kept weights on the validation rows; empty for a refit.
        untrained: of the factors before any training.
        curve: validation NDCG@10 of the factors by epoch, "0" before training; empty for a refit.
        seconds: wall-clock time of the training loop.
        n_factors: K, and why where it was chosen here.
    """

    run: str
    tuning: str
    forecast: float
    rows: int
    parameters: int
    trainable: int
    steps: int
    best_epoch: float
    valid: dict[str, float]
    untrained: dict[str, float]
    curve: dict[str, float]
    seconds: float
    n_factors: str


def train(
    data: Path,
    out: Path,
    *,
    model: ModelConfig,
    train: TrainConfig,
    refit: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> TrainReport:
    """Fine-tune on a dataset and write a run.

    Args:
        data: dataset folder.
        out: run folder to write.
        model: shape of the model.
        train: settings of the training.
        refit: a finished run to repeat on train + valid rows, with its settings and its number of epochs; of ``model``
            and ``train`` only ``report_to`` counts then.
        resume: go on from the checkpoints of an interrupted call with the same settings and dataset.
        overwrite: replace ``out``.
        progress: is told of steps and losses.

    Raises:
        ArtifactError: if a folder cannot be used.
        ConfigError: if a setting cannot work.
        DataError: if the dataset has no rows.
    """
    state = processes(out)
    inputs = (data, refit, Path(model.backbone), *map(Path, model.readers))
    with claim(out, RUN.kind, inputs=inputs, overwrite=overwrite, leads=state.is_main_process) as place:
        return _train(data, out, place, model=model, train=train, refit=refit, resume=resume, progress=progress)


def _train(
    data: Path,
    out: Path,
    place: Claim,
    *,
    model: ModelConfig,
    train: TrainConfig,
    refit: Path | None,
    resume: bool,
    progress: Progress,
) -> TrainReport:
    """Do the work of `train` while its place is claimed."""
    tracking = Tracking.of(train.report_to, out)
    if refit is not None:
        model, settings = settings_of(refit)
        train = replace(settings, report_to=train.report_to)
    model, n_factors = _choose_n_factors(data, model, train, progress)
    set_seed(train.seed)
    setup = set_up(data, model, train, hold_out=refit is None, progress=progress)
    model, train = setup.recommender.config, replace(train, epochs=setup.epochs)
    setup.tracking = tracking
    validate = _validate(setup, setup.recommender.factors_recommender, train.valid_rows, progress)
    untrained = validate() if validate else {}
    begun = dump_toml([model, replace(train, report_to="none")])  # a resumed call may report elsewhere
    origin = f"{begun}# dataset {setup.dataset.fingerprint()}, {len(setup.rows)} rows\n"
    with checkpoint_folder(place, origin, resume=resume) as (folder, is_main):
        fitted = fit(setup, train, validate=validate, folder=folder, resume=resume, progress=progress)
        rank = validate
        if setup.recommender.head.writer is not None:  # until now the factors alone ranked
            rank = _validate(setup, setup.recommender.recommender, train.valid_rows, progress)
        valid, figures = rank() if rank else {}, _figures(setup, fitted)
        curve = {**({"0": untrained[BEST.removeprefix("eval_")]} if untrained else {}), **fitted.curve}
        report = TrainReport(
            run=str(out), valid=valid, untrained=untrained, curve=curve, n_factors=n_factors, **figures
        )
        if is_main:
            run = finished(setup, train, report)
            with place.folder() as temporary:
                run.write(temporary, dump_toml([run.config, train]))
    return report


def _validate(
    setup: Setup, recommender: Callable[[], Recommender], n_rows: int | None, progress: Progress
) -> Validate | None:
    """Return what ranks the validation rows; None for a refit, which trains on them."""
    if setup.valid is None:
        return None
    rows = validation_rows(setup.valid, n_rows, searched=not recommender().scores_items)
    return validator(recommender, rows, progress=progress)


def _figures(setup: Setup, fitted: Fitted) -> dict[str, Any]:
    """Return what a report shows of how a training began and ended."""
    return {
        "tuning": setup.tuning,
        "rows": len(setup.rows),
        "parameters": sum(parameter.numel() for parameter in setup.recommender.parameters()),
        "trainable": sum(parameter.numel() for parameter in fitted.learned),
        "forecast": fitted.forecast,
        "steps": fitted.steps,
        "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds,
    }


def _choose_n_factors(
    data: Path, model: ModelConfig, train: TrainConfig, progress: Progress
) -> tuple[ModelConfig, str]:
    """Resolve ``--n-factors auto``; return the model's settings, and K with the reason where it was chosen here."""
    if model.n_factors is not None:
        return model, str(model.n_factors)
    choice = choose_n_factors(data, model, train, progress=progress)
    return replace(model, n_factors=choice.n_factors), f"{choice.n_factors}: {choice.why}"


def settings_of(run: Path) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings of a finished run, with what `auto` became there, whatever it would be on other rows."""
    report = open_folder(run, "run").content["report"]
    tables = read_tables(run / "config.toml")
    model, train = model_config(tables), build(TrainConfig, tables["train"])
    epochs = max(1, round(report["best_epoch"]))
    return model, replace(train, tuning=report["tuning"], epochs=epochs, forecast=report["forecast"])


def finished(setup: Setup, train: TrainConfig, report: TrainReport) -> Run:
    """Fold what learned into a run."""
    recommender = setup.recommender
    model = recommender.config
    with torch.no_grad():
        setup.item_encoder.scale.copy_(recommender.items.scale)
    merge(recommender.model.encoder.trunk, setup.tuning)
    if (writer := recommender.head.writer) is not None:
        merge(writer.encoder.trunk, train.writer_tuning)
    backbone = replace(setup.backbone, lm=recommender.model.encoder.trunk.lm, weights=None)
    content = {
        "stage": "sft",
        "dataset": str(setup.dataset.folder.resolve()),
        "dataset_fingerprint": setup.dataset.fingerprint(),
        "reading": setup.dataset.manifest.content.get("reading", {}),
        "report": vars(report),
    }
    return Run(
        config=model,
        catalog=setup.dataset.catalog,
        backbone=backbone,
        model=recommender.model,
        head=recommender.head,
        item_encoder=setup.item_encoder,
        vectors=recommender.items.frozen(),
        evidence=recommender.head.evidence.bake(),
        manifest=Manifest(
            kind="run",
            settings={config.table: config.as_dict() for config in (*model.parts(), train)},
            content=content,
            source=str(setup.dataset.folder),
        ),
    )
