"""Full-catalogue evaluation of any scorer, and of a recommender beside the baselines.

The protocol, stated in every result: every item is a candidate except what the row's user had before (unless
``allow_seen``); the target's rank counts every candidate that scores at least as much; a target among the seen items
is no candidate and counts as a miss. With ``match="title"`` items of the same title are one candidate, which has
the best score among them, and ranks count distinct titles, as the papers do.

Shapes: B rows of a batch, R rows, M items.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model.arrays import Floats, Ints
from flr_model.config import EvalConfig
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import Dataset
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ArtifactError, DataError
from flr_model.evaluation import metrics
from flr_model.evaluation.baselines import BASELINES
from flr_model.evaluation.diagnostics import factor_diagnostics
from flr_model.evaluation.listed import Listed
from flr_model.evaluation.result import (
    AGAINST,
    COMPARED,
    COVERAGE_AT,
    RECS,
    Evaluation,
    EvaluationReport,
    RankedRows,
)
from flr_model.evaluation.segments import detail_masks, segment_masks
from flr_model.evaluation.tuned import Tuned, check_installed, tune
from flr_model.progress import SILENT, Progress
from flr_model.ranking.candidates import Candidates
from flr_model.ranking.recommender import Recommender, Scorer
from flr_model.ranking.topk import best_items

VALID_ROWS = 10_000
"""Most validation rows on which the settings of a baseline are chosen, evenly spaced."""


def evaluate(
    scorer: Scorer,
    rows: HistoryRows,
    *,
    train: HistoryRows,
    catalog: Catalog,
    config: EvalConfig,
    progress: Progress = SILENT,
) -> Evaluation:
    """Rank the whole catalogue for every row and measure where the target lands.

    Args:
        scorer: recommender or baseline.
        rows: R rows; those without a target are left out.
        train: training rows, which say what is popular and what is cold.
        catalog: the M items, in the scorer's order.
        config: match, candidates, batch size and bootstrap.
        progress: counts rows.

    Raises:
        DataError: if no row has a target.
    """
    rows = _with_targets(rows, config.split)
    ranks, coverage = rank_rows(scorer, rows, catalog, config, progress)
    masks = segment_masks(rows, train, len(catalog))
    if config.segment is not None:
        masks[config.segment] = detail_masks(rows, catalog.detail(config.segment, "--segment"))
    return Evaluation(
        metrics=metrics.means(ranks),
        intervals=metrics.intervals(ranks, config.bootstrap, config.seed),
        segments={
            division: {name: _segment(ranks[mask], config) for name, mask in groups.items()}
            for division, groups in masks.items()
        },
        coverage=coverage,
        protocol=_protocol(rows, catalog, config),
        ranks=ranks,
    )


def evaluate_with_baselines(
    recommender: Recommender,
    dataset: Dataset,
    config: EvalConfig,
    *,
    recs: Listed | None = None,
    against: Path | None = None,
    progress: Progress = SILENT,
) -> EvaluationReport:
    """Evaluate a recommender on a split of a dataset, beside baselines fitted on its training rows, and others.

    Args:
        recommender: the model.
        dataset: with the rows.
        config: which rows are ranked, and how.
        recs: recommendations of the same items that somebody else made.
        against: another run or bundle whose evaluation of the same rows is saved, or an evaluation folder.
        progress: counts rows.

    Raises:
        ArtifactError: if the recommender was made for other items than the dataset's, or the saved evaluation is not of
            these rows.
        DataError: if no row of the split has a target.
        MissingExtraError: if the library of a baseline is not installed.
    """
    check_same_items(recommender.catalog, dataset)
    check_installed(config.beside)
    if config.segment is not None:  # before the ranking, which takes long
        dataset.catalog.detail(config.segment, "--segment")
    train = dataset.rows("train")
    rows = _rows(dataset, config.split, config.max_rows)
    other = None if against is None else _saved(against, rows, dataset.catalog, config)
    about = {} if recs is None else {RECS: recs.describe(rows)}

    def measure(scorer: Scorer) -> Evaluation:
        return evaluate(scorer, rows, train=train, catalog=dataset.catalog, config=config, progress=progress)

    model = measure(recommender)
    fitted = {name: _baseline(name, dataset, config, progress) for name in config.beside}
    about |= {name: baseline.about for name, baseline in fitted.items() if baseline.about}
    baselines = {name: measure(baseline.scorer) for name, baseline in fitted.items()}
    if recs is not None:
        baselines[RECS] = measure(recs)
    if other is not None:
        baselines[AGAINST] = other
        about[AGAINST] = {"source": str(against)}
    diagnostics = factor_diagnostics(recommender, rows, batch_size=config.batch_size)
    return EvaluationReport(model, baselines, diagnostics, RankedRows.of(rows, dataset.catalog), about)


def _saved(against: Path, rows: HistoryRows, catalog: Catalog, config: EvalConfig) -> Evaluation:
    """Open a saved evaluation of the same rows."""
    saved = EvaluationReport.load(against, config.split)
    saved.check_comparable(_protocol(rows, catalog, config), RankedRows.of(rows, catalog), where=against)
    return saved.model


def _baseline(name: str, dataset: Dataset, config: EvalConfig, progress: Progress) -> Tuned:
    """Fit a baseline on the training rows; its settings, if it has any, are chosen on the validation rows."""
    train, catalog = dataset.rows("train"), dataset.catalog
    if name in BASELINES:
        return Tuned(BASELINES[name].fit(train, len(catalog)), {})
    valid = dataset.rows("valid")
    valid = valid.select(valid.target != PAD).subsample(VALID_ROWS)

    def validate(scorer: Scorer) -> float:
        ranks, _ = rank_rows(scorer, valid, catalog, config)
        return float(metrics.ndcg(ranks, COVERAGE_AT).mean())

    return tune(name, train, len(catalog), validate if len(valid) else None, progress=progress)


def evaluated_rows(dataset: Dataset, report: EvaluationReport, *, where: Path) -> HistoryRows:
    """Return the rows that a saved evaluation has ranked.

    Raises:
        ArtifactError: if the dataset has others.
    """
    protocol = report.model.protocol
    rows = _rows(dataset, protocol["split"], protocol["rows"])
    report.check_comparable({**protocol, "rows": len(rows)}, RankedRows.of(rows, dataset.catalog), where=where)
    return rows


def _rows(dataset: Dataset, split: str, limit: int | None) -> HistoryRows:
    return _with_targets(dataset.rows(split), split).subsample(limit)


class _Titles(NamedTuple):
    """Items in order of title: where each distinct title begins, and (M,) the title of each item."""

    order: Ints
    starts: Ints
    title_of: Ints

    @classmethod
    def of(cls, catalog: Catalog) -> _Titles:
        title_of = pd.factorize(catalog.titles)[0].astype(np.int64)
        order = np.argsort(title_of, kind="stable")
        starts = np.flatnonzero(np.diff(title_of[order], prepend=-1))
        return cls(order, starts, title_of)

    def best_scores(self, scores: Floats) -> Floats:
        """Return the best score of each distinct title."""
        best: Floats = np.maximum.reduceat(scores[:, self.order], self.starts, axis=1)
        return best


def rank_rows(
    scorer: Scorer,
    rows: HistoryRows,
    catalog: Catalog,
    config: EvalConfig,
    progress: Progress = SILENT,
    *,
    unit: str = "rows",
) -> tuple[Ints, float]:
    """Return (R,) ranks of the rows' targets, and the share of items in somebody's top 10."""
    titles = _Titles.of(catalog) if config.match == "title" else None
    shown: npt.NDArray[np.bool_] = np.zeros(len(catalog), bool)
    ranks = []
    with progress.task(len(rows), unit) as task:
        for start in range(0, len(rows), config.batch_size):
            batch = rows.select(slice(start, start + config.batch_size))
            scores = scorer.scores(batch, Candidates(allow_seen=config.allow_seen))
            best = best_items(scores, COVERAGE_AT)
            shown[best[best != PAD]] = True
            if titles is None:
                ranks.append(metrics.target_ranks(scores, batch.target))
            else:
                ranks.append(metrics.target_ranks(titles.best_scores(scores), titles.title_of[batch.target]))
            task.advance(len(batch))
    return np.concatenate(ranks), float(shown.mean())


def _segment(ranks: Ints, config: EvalConfig) -> dict[str, Any]:
    interval = metrics.intervals(ranks, config.bootstrap, config.seed).get(COMPARED)
    return {"rows": len(ranks), **metrics.means(ranks), "interval": interval}


def _with_targets(rows: HistoryRows, split: str) -> HistoryRows:
    known = rows.select(rows.target != PAD)
    if not len(known):
        raise DataError(
            f"the {split} split has no row with a target", hint="choose another --split, or prepare with larger shares"
        )
    return known


def _protocol(rows: HistoryRows, catalog: Catalog, config: EvalConfig) -> dict[str, Any]:
    by_title = config.match == "title"
    return {
        "split": config.split,
        "match": config.match,
        "ties": "against the target",
        "candidates": len(pd.unique(catalog.titles)) if by_title else len(catalog),
        "seen": "allowed" if config.allow_seen else "removed",
        "rows": len(rows),
        "targets_in_history": int(rows.target_seen().sum()),
        "bootstrap": config.bootstrap,
        "seed": config.seed,
    }


def check_same_items(catalog: Catalog, dataset: Dataset) -> None:
    """Refuse a dataset of other items than those of a model.

    Raises:
        ArtifactError: if it is.
    """
    if len(catalog) == len(dataset.catalog) and (catalog.item_ids == dataset.catalog.item_ids).all():
        return
    unknown = dataset.catalog.item_ids[catalog.positions(dataset.catalog.item_ids) < 0]
    sample = f", for instance {', '.join(unknown[:3])}" if len(unknown) else " but in another order or number"
    raise ArtifactError(
        f"{dataset.folder} has {len(dataset.catalog)} items, the model was made for {len(catalog)}; "
        f"{len(unknown)} of the dataset's are unknown to it{sample}",
        hint="pass the dataset that the model was trained on with --data",
    )
