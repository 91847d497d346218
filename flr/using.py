"""What is done with a run or a bundle: opening it, measuring it, scoring a file; the commands call these functions."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from flr.paths import PathLike, as_path
from flr_model.config import EvalConfig, FilesConfig, ScoreConfig
from flr_model.errors import ConfigError
from flr_model.progress import SILENT, Progress

if TYPE_CHECKING:
    from flr.recommender import Recommender
    from flr_export.scoring.report import ScoreReport
    from flr_export.scoring.rules import ItemRules
    from flr_model.evaluation.evaluate import EvaluationReport


def load(folder: PathLike) -> Recommender:
    """Open a bundle or a run to recommend; a bundle needs no torch and answers in milliseconds.

    Args:
        folder: made by `export`, or by `train` or `align`.

    Raises:
        ArtifactError: if it is no complete and undamaged bundle or run.
        MissingExtraError: if onnxruntime, or for a run torch, is not installed.
    """
    from flr.recommender import Recommender

    return Recommender.open(Path(folder))


def evaluate(
    source: PathLike,
    *,
    config: EvalConfig | None = None,
    data: PathLike | None = None,
    out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> EvaluationReport:
    """Measure a run or a bundle on held-out rows, beside two baselines (`flr eval`).

    Args:
        source: the run or the bundle.
        config: which rows are ranked, and how.
        data: the dataset; None takes the one that the source names.
        out: Parquet file for the rank of every row's target.
        overwrite: replace a file at ``out``.
        progress: is told of rows.

    Raises:
        ArtifactError, ConfigError: if something given cannot be used.
        MissingExtraError: if onnxruntime, or for a run torch, is not installed.
    """
    from flr.recommender import open_recommender
    from flr_model.artifacts import open_folder
    from flr_model.data.dataset import Dataset
    from flr_model.evaluation.evaluate import evaluate_with_baselines
    from flr_model.writing import FILE, claim

    source, ranks, config = Path(source), as_path(out), config or EvalConfig()
    manifest = open_folder(source, "run", "bundle")
    if ranks is not None and ranks.suffix.lower() != ".parquet":
        raise ConfigError(f"--out {ranks}: ranks are written as Parquet", hint="name a file that ends in .parquet")
    dataset = Dataset.of(manifest, as_path(data))
    inputs = (source, dataset.folder)
    with nullcontext() if ranks is None else claim(ranks, FILE, inputs=inputs, overwrite=overwrite) as place:
        recommender = open_recommender(source, manifest, guidance=config.guidance)
        report = evaluate_with_baselines(recommender, dataset, config, progress=progress)
        if place is not None:
            report.write_ranks(place)
    return report


def score(
    bundle: PathLike,
    histories: PathLike,
    out: PathLike,
    *,
    config: ScoreConfig | None = None,
    files: FilesConfig | None = None,
    form: str = "auto",
    items: PathLike | None = None,
    candidates: PathLike | None = None,
    rules: ItemRules | None = None,
    shards: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ScoreReport:
    """Recommend items for every user of a file, into a file (`flr score`); `Recommender.recommend` takes frames.

    Args:
        bundle: made by `export`.
        histories: a row per interaction, or a row per user with a list of items.
        out: CSV or Parquet file to write; rejects go beside it.
        config: how many items, which of them, and how.
        files: how the files are read, beyond what the bundle remembers.
        form: of the histories: auto, long or wide.
        items: titles of new items.
        candidates: pairs of user and item; only these are ranked.
        rules: which items may be recommended, are boosted, and how many of a kind a list has.
        shards: the part of the users to score, such as 2/8.
        resume: go on where an interrupted call stopped.
        overwrite: replace a result at ``out``.
        progress: is told of users.

    Raises:
        FlrError: if something given cannot be used; `NothingToDo` if the result to resume is finished.
    """
    from flr_export.runtime import load_bundle
    from flr_export.scoring.inputs import Shard
    from flr_export.scoring.score import score_file

    bundle, config = Path(bundle), config or ScoreConfig()
    return score_file(
        load_bundle(bundle, threads=1, index=config.index), Path(histories), Path(out), bundle=bundle, config=config,
        files=files, form=form, items=as_path(items), candidates=as_path(candidates), shard=Shard.parse(shards),
        rules=rules, resume=resume, overwrite=overwrite, progress=progress,
    )  # fmt: skip
