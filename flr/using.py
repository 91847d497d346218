"""What is done with a run or a bundle: opening it, measuring it, scoring a file; the commands call these functions."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flr.paths import PathLike, as_path
from flr_model.config import EvalConfig, FilesConfig, ScoreConfig
from flr_model.errors import ConfigError, needs_extra
from flr_model.progress import SILENT, Progress

if TYPE_CHECKING:
    from flr.recommender import Recommender
    from flr_export.scoring.report import ScoreReport
    from flr_export.scoring.rules import ItemRules
    from flr_model.artifacts import Manifest
    from flr_model.data.dataset import Dataset
    from flr_model.evaluation.listed import Listed
    from flr_model.evaluation.result import EvaluationReport
    from flr_model.writing import Claim

logger = logging.getLogger(__name__)


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
    files: FilesConfig | None = None,
    data: PathLike | None = None,
    against: PathLike | None = None,
    recs: PathLike | None = None,
    out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> EvaluationReport:
    """Measure a run or a bundle on held-out rows, beside baselines and others, and save the result (`flr eval`).

    Args:
        source: the run or the bundle.
        config: which rows are ranked, and how.
        files: how ``recs`` is read, beyond what the source remembers.
        data: the dataset; None takes the one that the source names.
        against: another run or bundle whose evaluation is saved, or an evaluation folder, to compare with by row.
        recs: a file of other recommendations (user, item, rank or score), to compare with by row.
        out: folder for the result; None saves it with the source, in place of an earlier one of the split.
        overwrite: replace an evaluation at ``out``.
        progress: is told of rows.

    Raises:
        ArtifactError, ConfigError, DataError: if something given cannot be used.
        MissingExtraError: if onnxruntime, or for a run torch, is not installed.
    """
    from flr.recommender import open_recommender
    from flr_model.artifacts import open_folder
    from flr_model.data.dataset import Dataset
    from flr_model.evaluation.evaluate import evaluate_with_baselines

    source, config = Path(source), config or EvalConfig()
    manifest = open_folder(source, "run", "bundle")
    dataset = Dataset.of(manifest, as_path(data))
    inputs = (source, dataset.folder, as_path(recs), as_path(against))
    with _place(source, config.split, as_path(out), inputs, overwrite=overwrite) as place:
        listed = None if recs is None else _listed(Path(recs), dataset, manifest, files or FilesConfig())
        recommender = open_recommender(source, manifest, guidance=config.guidance)
        report = evaluate_with_baselines(
            recommender, dataset, config, recs=listed, against=as_path(against), progress=progress
        )
        if place is not None:
            report.save(place, source)
            logger.info("wrote %s", place.path)
    return report


def _listed(recs: Path, dataset: Dataset, manifest: Manifest, files: FilesConfig) -> Listed:
    """Read other recommendations, whose columns may be called as those of the interactions are."""
    from flr_model.evaluation.listed import Listed
    from flr_model.files.reading import Reading

    reading = Reading.of(files, "recs", manifest.content.get("reading", {}).get("interactions"))
    return Listed.read(recs, dataset.catalog, reading)


@contextmanager
def _place(
    source: Path, split: str, out: Path | None, inputs: tuple[Path | None, ...], *, overwrite: bool
) -> Iterator[Claim | None]:
    """Claim where the result of an evaluation goes; None where the run or bundle may not be written into."""
    from flr_model.artifacts import EVALUATION, evaluation_folder
    from flr_model.writing import claim

    if out is not None:
        with claim(out, EVALUATION.kind, inputs=inputs, overwrite=overwrite) as place:
            yield place
    elif os.access(source, os.W_OK):
        with claim(evaluation_folder(source, split), EVALUATION.kind, overwrite=True) as place:
            yield place
    else:
        logger.warning("no permission to write into %s: the result is not saved; --out DIR saves it elsewhere", source)
        yield None


def report(
    sources: Sequence[PathLike],
    html: PathLike,
    *,
    split: str = "test",
    data: PathLike | None = None,
    overwrite: bool = False,
) -> None:
    """Write one page about a run or bundle for people, from its saved evaluation (`flr report`).

    Args:
        sources: runs or bundles that `evaluate` has measured: the first in full, the others beside it.
        html: the page to write; it needs no network.
        split: whose evaluation is shown.
        data: the dataset; None takes the one that the first source names.
        overwrite: replace a page at ``html``.

    Raises:
        ArtifactError, ConfigError: if something given cannot be used, or has not been evaluated.
        MissingExtraError: if matplotlib and jinja2 are not installed, or what the first source needs to recommend.
    """
    with needs_extra("report"):
        from flr_model.report.page import page
    from flr.recommender import open_recommender
    from flr_model.data.dataset import Dataset
    from flr_model.evaluation.evaluate import evaluated_rows
    from flr_model.report.subject import Subject
    from flr_model.writing import FILE, claim

    html = Path(html)
    if html.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{html}: the report is a page", hint="name a file that ends in .html")
    subjects = Subject.open_all([Path(source) for source in sources], split)
    first = subjects[0]
    dataset = Dataset.of(first.manifest, as_path(data))
    inputs = (*(subject.path for subject in subjects), dataset.folder)
    with claim(html, FILE, inputs=inputs, overwrite=overwrite) as place:
        rows = evaluated_rows(dataset, first.evaluation, where=first.path)
        written = page(subjects, open_recommender(first.path, first.manifest), dataset, rows)
        with place.file() as path:
            path.write_text(written, encoding="utf-8")


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
