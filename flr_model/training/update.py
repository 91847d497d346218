"""A run goes on with new interactions: from its weights, in a fraction of the time, kept only if it is not worse."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transformers import set_seed

from flr_model.arrays import Ints
from flr_model.artifacts import DATASET, RUN, Manifest, fingerprint, open_folder
from flr_model.config import AlignConfig, EvalConfig, Settings, TrainConfig, UpdateConfig
from flr_model.config_io import build, current, dump_toml
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import Dataset
from flr_model.data.extend import Extended, extend
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError, GateError, pluralize
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import check_same_items, rank_rows
from flr_model.evaluation.result import COMPARED
from flr_model.evaluation.validation import CUTOFF
from flr_model.nn.device import best_device
from flr_model.nn.run import Run, load_run
from flr_model.progress import SILENT, Progress
from flr_model.ranking.recommender import Recommender
from flr_model.training.onward import finished, go_on, recent, with_new_items
from flr_model.training.setup import trainable
from flr_model.writing import Claim, claim

logger = logging.getLogger(__name__)

RESAMPLES = 1000


@dataclass(frozen=True)
class UpdateReport:
    """What an update did.

    Args:
        run: the folder written; dataset: likewise, of all interactions.
        new_rows: rows that the run's dataset did not have. new_items: items likewise.
        rows: rows learned from. steps: optimisation steps. seconds: of the training loop.
        newest: the newest rows, which neither learned from.
        before, after: metrics on them, of the run in use and of the updated one.
        difference: mean, low and high (95 %) of NDCG@10 after minus before, paired by row.
    """

    run: str
    dataset: str
    new_rows: int
    new_items: int
    rows: int
    steps: int
    seconds: float
    newest: int
    before: dict[str, float]
    after: dict[str, float]
    difference: tuple[float, float, float]


@dataclass(frozen=True)
class _Job:
    """Where an update starts, and where it goes."""

    run: Path
    dataset: Dataset
    place: Claim
    data_place: Claim
    config: UpdateConfig


def update(
    source: Path,
    interactions: Path,
    out: Path,
    *,
    config: UpdateConfig,
    items: Path | None = None,
    data: Path | None = None,
    data_out: Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> UpdateReport:
    """Go on with a run and write another one, and the dataset of all interactions.

    Args:
        source: run in use, or the bundle that was made of it.
        interactions: file of everything until now, or of what is new.
        out: run folder to write.
        config: settings.
        items: titles of new items, with or without the known ones.
        data: dataset folder, if it is not where the run says.
        data_out: dataset folder to write; None puts it beside ``out``, as OUT-data.
        overwrite: replace ``out`` and ``data_out``.
        progress: is told of rows and steps.

    Raises:
        ArtifactError, ConfigError, DataError: if something given cannot be used.
        GateError: if the updated run is worse than the run in use; nothing is written then.
    """
    run_folder, manifest = _run_in_use(source)
    dataset = Dataset.of(manifest, data)
    check_same_items(Catalog.read(run_folder / "items.parquet"), dataset)
    inputs = (source, run_folder, dataset.folder, interactions, items)
    data_out = data_out or out.with_name(f"{out.name}-data")
    with (
        claim(out, RUN.kind, inputs=inputs, overwrite=overwrite) as place,
        claim(data_out, DATASET.kind, inputs=(*inputs, out), overwrite=overwrite) as data_place,
    ):
        extended = extend(dataset, interactions, items, config.held_out)
        job = _Job(run_folder, dataset, place, data_place, config)
        return _update(job, extended, progress)


def _run_in_use(source: Path) -> tuple[Path, Manifest]:
    """Return the run itself, or the one that a bundle was made of: a bundle has no weights to train."""
    manifest = open_folder(source, "run", "bundle")
    if manifest.kind == "run":
        return source, manifest
    folder, hint = Path(manifest.source or ""), "name the run instead"
    if not manifest.source or not folder.is_dir():
        raise ArtifactError(f"the run {folder} that the bundle {source} was made of is gone", hint=hint)
    run = open_folder(folder, "run")
    if run.content.get("dataset_fingerprint") != manifest.content.get("dataset_fingerprint"):
        raise ArtifactError(f"{folder} is another run than the one that {source} was made of", hint=hint)
    return folder, run


def _update(job: _Job, extended: Extended, progress: Progress) -> UpdateReport:
    """Do the work of `update` while its places are claimed."""
    config, splits = job.config, extended.prepared.splits
    logger.info(
        "%s and %s are new; the newest %s of all are not learned from, half of them for validation (--held-out)",
        pluralize(extended.new_rows, "row"),
        pluralize(extended.new_items, "item"),
        f"{len(splits['valid']) + len(splits['test']):,}",
    )
    set_seed(config.seed)
    run = load_run(job.run)
    run.model.to(best_device())
    run.head.to(best_device())
    in_use = with_new_items(run, extended.prepared.catalog)
    before = _ranks(in_use, splits["test"], progress)
    run = replace(run, catalog=in_use.catalog, vectors=in_use.vectors)
    train = build(TrainConfig, current(run.manifest.settings)["train"])
    recommender = trainable(run, splits["train"]).to(best_device())
    rows = recent(splits["train"], train, config.max_rows)
    began = time.perf_counter()
    with job.place.scratch() as folder:
        steps = go_on(recommender, rows, train, config, folder=folder, progress=progress)
    seconds = time.perf_counter() - began
    after = _ranks(recommender.recommender(), splits["test"], progress)
    report = UpdateReport(
        run=str(job.place.path),
        dataset=str(job.data_place.path),
        new_rows=extended.new_rows,
        new_items=extended.new_items,
        rows=len(rows),
        steps=steps,
        seconds=seconds,
        newest=len(after),
        before=metrics.means(before, (CUTOFF,)),
        after=metrics.means(after, (CUTOFF,)),
        difference=metrics.paired_difference(
            metrics.ndcg(after, CUTOFF), metrics.ndcg(before, CUTOFF), RESAMPLES, config.seed
        ),
    )
    _refuse_worse(report, job)
    _write(job, finished(run, recommender), extended, report)
    return report


def _ranks(recommender: Recommender, rows: HistoryRows, progress: Progress) -> Ints:
    return rank_rows(recommender, rows, recommender.catalog, EvalConfig(), progress)[0]


def _refuse_worse(report: UpdateReport, job: _Job) -> None:
    before, after = report.before[COMPARED], report.after[COMPARED]
    if after >= before * (1 - job.config.max_loss):
        return
    mean, low, high = report.difference
    raise GateError(
        f"on the newest {pluralize(report.newest, 'row')} the updated run is worse than {job.run}: {COMPARED} "
        f"{after:.4f} after {before:.4f} ({mean:+.4f}, 95 % {low:+.4f}..{high:+.4f}); nothing was written",
        hint=f"keep {job.run}; try again with more new rows, accept a loss with --max-loss, or train anew "
        "with `flr prepare` and `flr train`",
    )


def _write(job: _Job, run: Run, extended: Extended, report: UpdateReport) -> None:
    """Write the dataset and the run, each complete before it takes its place."""
    prepared = extended.prepared
    with job.place.folder() as folder, job.data_place.folder() as data_folder:
        prepared.write(data_folder, prepared.report(), extended.files)
        facts = {
            "stage": "update",
            "update": asdict(report),
            "dataset": str(job.data_place.path),
            "dataset_fingerprint": fingerprint(data_folder, DATASET.files),
            "reading": prepared.memory,
        }
        known, config = run.manifest, job.config
        manifest = replace(
            known,
            settings={**known.settings, config.table: config.as_dict()},
            content={**known.content, **facts},
            source=str(job.run),
        )
        replace(run, manifest=manifest).write(folder, dump_toml(_configs(run, config)))


def _configs(run: Run, config: UpdateConfig) -> list[Settings]:
    """Return the settings behind a run: of training, alignment where there was one, and the update."""
    tables = current(run.manifest.settings)
    aligned = [build(AlignConfig, tables["align"])] if "align" in tables else []
    return [run.config, build(TrainConfig, tables["train"]), *aligned, config]
