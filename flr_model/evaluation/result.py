"""The result of an evaluation: measured once, printed, saved beside what was measured, and loaded again.

An evaluation folder holds ``eval.json``, the object that `flr eval --json` prints, and ``ranks.parquet``: per row the
user, the target, and its rank by each scorer.

Shapes: R rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model import columns
from flr_model.arrays import Ints
from flr_model.artifacts import EVALUATION, MANIFEST, Manifest, evaluation_folder, kind_of, open_folder, reading
from flr_model.checksums import sha256
from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError
from flr_model.evaluation import metrics
from flr_model.writing import Claim

COVERAGE_AT = 10
COVERAGE = f"coverage@{COVERAGE_AT}"
COMPARED = "NDCG@10"
"""The metric of the segments' intervals."""
PAIRED = {"HR@10": metrics.hit_rate, COMPARED: metrics.ndcg}
"""The metrics of the paired differences."""

MODEL = "model"
AGAINST = "against"
RECS = "recs"

_PROTOCOL = ("split", "match", "candidates", "seen", "rows")
"""What two evaluations must share to be compared."""


@dataclass(frozen=True)
class Evaluation:
    """How one scorer ranks R rows.

    Args:
        metrics: means by name: HR, NDCG and MRR at 1, 5, 10, 20 (at 1 they are one, HR).
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

    def minus(self, other: Evaluation) -> dict[str, Difference]:
        """Compare with another scorer on the same rows, by each of `PAIRED`."""
        n, seed = self.protocol["bootstrap"], self.protocol["seed"]
        return {
            name: Difference.of(metric(self.ranks, COVERAGE_AT), metric(other.ranks, COVERAGE_AT), n, seed)
            for name, metric in PAIRED.items()
        }


@dataclass(frozen=True)
class Difference:
    """The mean of one scorer's metric minus another's, paired by row.

    Args:
        mean: of the differences.
        low: of the 95 % interval; None without resamples.
        high: likewise.
        relative: 95 % interval of the difference as a share of the other's mean; None without resamples, or if that
            mean may be 0.
    """

    mean: float
    low: float | None
    high: float | None
    relative: tuple[float, float] | None

    @classmethod
    def of(cls, own: metrics.Doubles, other: metrics.Doubles, n: int, seed: int) -> Difference:
        """Compare (R,) values of two scorers by n resamples of the rows."""
        mean, *interval = metrics.paired_difference(own, other, n, seed)
        low, high = interval if n else (None, None)
        return cls(mean, low, high, metrics.relative_difference(own, other, n, seed))


@dataclass(frozen=True)
class RankedRows:
    """Which rows were ranked.

    Args:
        user_id: (R,) external ids.
        target: (R,) external ids of the targets.
        history_length: (R,) items of the histories.
    """

    user_id: npt.NDArray[Any]
    target: npt.NDArray[Any]
    history_length: Ints

    @classmethod
    def of(cls, rows: HistoryRows, catalog: Catalog) -> RankedRows:
        """Take what tells rows apart."""
        return cls(rows.user_id.astype(str).astype(object), catalog.item_ids[rows.target], rows.lengths)

    def table(self) -> pd.DataFrame:
        """Return a line per row."""
        return pd.DataFrame(
            {columns.USER: self.user_id, "history_length": self.history_length, columns.TARGET: self.target}
        )


@dataclass(frozen=True)
class EvaluationReport:
    """A model beside others on the same rows.

    Args:
        model: the scorer's own evaluation.
        baselines: the same for each baseline by name, for "recs" (a file of recommendations) and for "against" (another
            run or bundle).
        diagnostics: of the factors (`flr_model.evaluation.diagnostics`); empty for a scorer without factors.
        rows: the R rows that were ranked.
        about: what "recs" and "against" are, by name.
    """

    model: Evaluation
    baselines: dict[str, Evaluation]
    diagnostics: dict[str, Any]
    rows: RankedRows
    about: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """The model minus each of the others, by name and metric."""
        return {name: self.model.minus(other) for name, other in self.baselines.items()}

    def without(self, name: str) -> EvaluationReport:
        """Return the report without one of the others."""
        baselines = {other: one for other, one in self.baselines.items() if other != name}
        return replace(self, baselines=baselines, about={o: facts for o, facts in self.about.items() if o != name})

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `flr eval --json` prints."""
        others = self.baselines.items()
        return {
            "metrics": {**self.model.metrics, COVERAGE: self.model.coverage},
            "intervals": self.model.intervals,
            "segments": self.model.segments,
            "baselines": {name: {**b.metrics, COVERAGE: b.coverage} for name, b in others},
            "baseline_intervals": {name: b.intervals for name, b in others},
            "baseline_segments": {name: b.segments for name, b in others},
            "differences": {
                name: {metric: vars(difference) for metric, difference in by_metric.items()}
                for name, by_metric in self.differences.items()
            },
            "diagnostics": self.diagnostics,
            "protocol": self.model.protocol,
            "about": self.about,
        }

    def check_comparable(self, protocol: dict[str, Any], rows: RankedRows, *, where: Path) -> None:
        """Refuse to compare this saved evaluation with one that is of other rows or measured otherwise.

        Args:
            protocol: of the other one.
            rows: of the other one.
            where: this one lies, for messages.

        Raises:
            ArtifactError: if they cannot be paired by row.
        """
        own, hint = self.model.protocol, "evaluate both on the same dataset with the same settings"
        for name in _PROTOCOL:
            if own[name] != protocol[name]:
                raise ArtifactError(
                    f"{where} cannot be compared by row: its evaluation has {name} {own[name]}, "
                    f"this one {protocol[name]}",
                    hint=hint,
                )
        differ = (self.rows.table() != rows.table()).any(axis=1).to_numpy()
        if differ.any():
            row = int(differ.argmax())
            raise ArtifactError(
                f"{where} cannot be compared by row: {int(differ.sum()):,} of its {len(differ):,} rows are others, for "
                f"instance row {row}, user {self.rows.user_id[row]} for {rows.user_id[row]}",
                hint=hint,
            )

    def save(self, place: Claim, source: Path) -> None:
        """Write the evaluation folder of a run or bundle."""
        ranks = {MODEL: self.model.ranks, **{name: b.ranks for name, b in self.baselines.items()}}
        table = self.rows.table().assign(
            **{
                f"{columns.RANK}_{name}": pd.arrays.IntegerArray(values, values == metrics.MISS)
                for name, values in ranks.items()
            }
        )
        with place.folder() as folder:
            table.to_parquet(folder / "ranks.parquet", index=False)
            text = json.dumps(self.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
            (folder / "eval.json").write_text(text + "\n", encoding="utf-8")
            content = {"of": kind_of(source), "sha256": sha256(source / MANIFEST)}
            Manifest(EVALUATION.kind, content=content, source=str(source)).write(folder)

    @classmethod
    def load(cls, path: Path, split: str) -> EvaluationReport:
        """Open what `save` wrote.

        Args:
            path: a run or bundle, whose evaluation of the split is taken, or an evaluation folder.
            split: whose rows must have been ranked.

        Raises:
            ArtifactError: if there is none, it is damaged, of another split, or of what the run or bundle was before.
        """
        folder, again = path, f"flr eval {path} --split {split}"
        if kind_of(path) != EVALUATION.kind:
            open_folder(path, "run", "bundle")
            folder = evaluation_folder(path, split)
            if not folder.is_dir():
                raise ArtifactError(f"{path} has no saved evaluation of its {split} rows", hint=again)
            if open_folder(folder, EVALUATION.kind).content["sha256"] != sha256(path / MANIFEST):
                raise ArtifactError(f"{folder} is of what {path} was before", hint=again)
        open_folder(folder, EVALUATION.kind)
        with reading(folder, EVALUATION.again):
            body = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
            loaded = cls._of(body, pd.read_parquet(folder / "ranks.parquet"))
        if loaded.model.protocol["split"] != split:
            raise ArtifactError(f"{folder} is of the {loaded.model.protocol['split']} rows, not of {split}", hint=again)
        return loaded

    @classmethod
    def _of(cls, body: dict[str, Any], table: pd.DataFrame) -> EvaluationReport:
        def one(name: str, means: dict[str, float], intervals: Any, segments: Any) -> Evaluation:
            means = dict(means)
            coverage = means.pop(COVERAGE)
            ranks = table[f"{columns.RANK}_{name}"].fillna(metrics.MISS).to_numpy(np.int64)
            bounds = {metric: (low, high) for metric, (low, high) in intervals.items()}
            return Evaluation(means, bounds, segments, coverage, body["protocol"], ranks)

        return cls(
            model=one(MODEL, body["metrics"], body["intervals"], body["segments"]),
            baselines={
                name: one(name, means, body["baseline_intervals"][name], body["baseline_segments"][name])
                for name, means in body["baselines"].items()
            },
            diagnostics=body["diagnostics"],
            rows=RankedRows(
                table[columns.USER].to_numpy(object),
                table[columns.TARGET].to_numpy(object),
                table["history_length"].to_numpy(np.int64),
            ),
            about=body["about"],
        )
