"""Full-catalogue evaluation of any scorer, and of a recommender beside the baselines.

The protocol, stated in every result: every item is a candidate except what the row's user had before (unless
``allow_seen``); the target's rank counts every candidate that scores at least as much; a target among the seen items
is no candidate and counts as a miss. With ``match="title"`` items of the same title are one candidate, which has
the best score among them, and ranks count distinct titles, as the papers do.

Shapes: B rows of a batch, R rows, M items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model import columns
from flr_model.arrays import Floats, Ints
from flr_model.config import EvalConfig
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import Dataset
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ArtifactError, DataError
from flr_model.evaluation import metrics
from flr_model.evaluation.baselines import BASELINES
from flr_model.evaluation.diagnostics import factor_diagnostics
from flr_model.evaluation.segments import detail_masks, segment_masks
from flr_model.progress import SILENT, Progress
from flr_model.ranking.candidates import Candidates
from flr_model.ranking.recommender import Recommender, Scorer
from flr_model.ranking.topk import best_items
from flr_model.writing import Claim

COVERAGE_AT = 10
COVERAGE = f"coverage@{COVERAGE_AT}"
COMPARED = "NDCG@10"
"""The metric of the paired differences and of the segments' intervals."""


@dataclass(frozen=True)
class Evaluation:
    """How one scorer ranks R rows.

    Args:
        metrics: means by name: HR, NDCG and MRR at 1, 5, 10, 20.
        intervals: 95 % bootstrap interval of each; empty when no resamples were asked for.
        segments: means by division (popularity, history, target) and group, with the group's number of "rows" and
            the "interval" of NDCG@10 (None without resamples).
        coverage: share of the catalogue's items that are in somebody's top 10.
        protocol: what was ranked and how: split, match, ties, candidates, seen, rows.
        ranks: (R,) 0-based rank of each row's target, or `metrics.MISS`.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    segments: dict[str, dict[str, dict[str, Any]]]
    coverage: float
    protocol: dict[str, Any]
    ranks: Ints


@dataclass(frozen=True)
class EvaluationReport:
    """A model beside the baselines on the same rows.

    Args:
        model: the scorer's own evaluation.
        baselines: the same for each baseline, by name (pop, cooc).
        differences: by baseline: mean, low and high of the model's NDCG@10 minus the baseline's, paired by row.
        diagnostics: of the factors (`flr_model.evaluation.diagnostics`); empty for a scorer without factors.
        rows: the R rows that were ranked.
    """

    model: Evaluation
    baselines: dict[str, Evaluation]
    differences: dict[str, tuple[float, float, float]]
    diagnostics: dict[str, Any]
    rows: HistoryRows

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `flr eval --json` prints."""
        return {
            "metrics": {**self.model.metrics, COVERAGE: self.model.coverage},
            "intervals": self.model.intervals,
            "segments": self.model.segments,
            "baselines": {name: {**b.metrics, COVERAGE: b.coverage} for name, b in self.baselines.items()},
            "baseline_segments": {name: b.segments for name, b in self.baselines.items()},
            "differences": {
                name: {COMPARED: dict(zip(("mean", "low", "high"), difference, strict=True))}
                for name, difference in self.differences.items()
            },
            "diagnostics": self.diagnostics,
            "protocol": self.model.protocol,
        }

    def write_ranks(self, place: Claim) -> None:
        """Write one line per row as Parquet: user, history length, target position, 0-based rank by each scorer.

        A target that is no candidate has no rank (null).
        """
        ranks = {"model": self.model.ranks, **{name: b.ranks for name, b in self.baselines.items()}}
        table = pd.DataFrame(
            {
                columns.USER: self.rows.user_id.astype(str),
                "history_length": self.rows.lengths,
                columns.TARGET: self.rows.target,
                **{
                    f"{columns.RANK}_{name}": pd.arrays.IntegerArray(values, values == metrics.MISS)
                    for name, values in ranks.items()
                },
            }
        )
        with place.file() as path:
            table.to_parquet(path, index=False)


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
    recommender: Recommender, dataset: Dataset, config: EvalConfig, *, progress: Progress = SILENT
) -> EvaluationReport:
    """Evaluate a recommender on a split of a dataset, beside baselines fitted on its training rows.

    Raises:
        ArtifactError: if the recommender was made for other items than the dataset's.
        DataError: if no row of the split has a target.
    """
    _check_same_items(recommender.catalog, dataset)
    if config.segment is not None:  # before the ranking, which takes long
        dataset.catalog.detail(config.segment, "--segment")
    train = dataset.rows("train")
    rows = _with_targets(dataset.rows(config.split), config.split).subsample(config.max_rows)

    def measure(scorer: Scorer) -> Evaluation:
        return evaluate(scorer, rows, train=train, catalog=dataset.catalog, config=config, progress=progress)

    model = measure(recommender)
    baselines = {name: measure(baseline.fit(train, len(dataset.catalog))) for name, baseline in BASELINES.items()}
    own = metrics.ndcg(model.ranks, COVERAGE_AT)
    return EvaluationReport(
        model=model,
        baselines=baselines,
        differences={
            name: metrics.paired_difference(own, metrics.ndcg(b.ranks, COVERAGE_AT), config.bootstrap, config.seed)
            for name, b in baselines.items()
        },
        diagnostics=factor_diagnostics(recommender, rows, batch_size=config.batch_size),
        rows=rows,
    )


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
    scorer: Scorer, rows: HistoryRows, catalog: Catalog, config: EvalConfig, progress: Progress = SILENT
) -> tuple[Ints, float]:
    """Return (R,) ranks of the rows' targets, and the share of items in somebody's top 10."""
    titles = _Titles.of(catalog) if config.match == "title" else None
    shown: npt.NDArray[np.bool_] = np.zeros(len(catalog), bool)
    ranks = []
    with progress.task(len(rows), "rows") as task:
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


def _check_same_items(catalog: Catalog, dataset: Dataset) -> None:
    if len(catalog) == len(dataset.catalog) and (catalog.item_ids == dataset.catalog.item_ids).all():
        return
    unknown = dataset.catalog.item_ids[catalog.positions(dataset.catalog.item_ids) < 0]
    sample = f", for instance {', '.join(unknown[:3])}" if len(unknown) else " but in another order or number"
    raise ArtifactError(
        f"{dataset.folder} has {len(dataset.catalog)} items, the model was made for {len(catalog)}; "
        f"{len(unknown)} of the dataset's are unknown to it{sample}",
        hint="pass the dataset that the model was trained on with --data",
    )
