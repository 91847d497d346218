"""What a report is about: a run or bundle with its saved evaluation, and what its training said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flr_model.artifacts import Manifest, evaluation_folder, open_folder
from flr_model.errors import ArtifactError, ConfigError
from flr_model.evaluation.result import AGAINST, EvaluationReport


@dataclass(frozen=True)
class Subject:
    """A run or bundle.

    Args:
        path: as it was given.
        manifest: its own.
        evaluation: the saved one.
        curve: validation NDCG@10 by epoch, 0 before training; empty where its training did not say.
        name: what it is called in a report.
    """

    path: Path
    manifest: Manifest
    evaluation: EvaluationReport
    curve: dict[float, float]
    name: str

    @classmethod
    def open_all(cls, paths: Sequence[Path], split: str) -> list[Subject]:
        """Open runs or bundles whose evaluations of a split are saved, of the same rows.

        Raises:
            ArtifactError: if one is there twice, has no evaluation, or is of other rows than the first.
        """
        if not paths:
            raise ConfigError("there is no run to report on", hint="name at least one")
        whole = Counter(path.resolve() for path in paths)
        short = Counter(path.name for path in whole)
        if twice := [str(path) for path in paths if whole[path.resolve()] > 1]:
            raise ConfigError(f"{twice[-1]} is there twice", hint="name each run once")
        subjects = []
        for path in paths:
            manifest = open_folder(path, "run", "bundle")
            evaluation, name = EvaluationReport.load(path, split), path.resolve().name
            called = name if short[name] == 1 else str(path)
            subjects.append(cls(path, manifest, evaluation, _curve(manifest), called))
            first = subjects[0].evaluation
            evaluation.check_comparable(first.model.protocol, first.rows, where=path)
        return [_shown_once(subjects[0], paths[1:], split), *subjects[1:]]


def _shown_once(first: Subject, others: Sequence[Path], split: str) -> Subject:
    """Leave out what the first one was evaluated against if that is there itself."""
    against = first.evaluation.about.get(AGAINST)
    there = {place.resolve() for path in others for place in (path, evaluation_folder(path, split))}
    if against is None or Path(against["source"]).resolve() not in there:
        return first
    return replace(first, evaluation=first.evaluation.without(AGAINST))


def _curve(manifest: Manifest) -> dict[float, float]:
    """Look for the figures of the training, also in what a bundle or an aligned run was made from."""
    known: Manifest | None = manifest
    while known is not None:
        report: dict[str, Any] = known.content.get("report", {})
        if curve := report.get("curve"):
            return {float(epoch): value for epoch, value in curve.items()}
        try:
            known = open_folder(Path(known.source), "run") if known.kind != "dataset" and known.source else None
        except ArtifactError:
            known = None
    return {}
