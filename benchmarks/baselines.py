"""What users would pick instead of flr, on the same rows and by the same metric: one table per dataset folder.

Every method is fitted on the training rows alone, with each setting of its grid (`GRIDS`) and seed 0. The setting with
the best NDCG@10 on the validation rows is fitted once per seed, and only these fits see the test rows. Ranking, ties
and hidden items are those of `flr eval`. The sequential models stop by the validation NDCG@10 too.

SASRec and GRU4Rec come from RecBole, all on the CPU; the others are those of `flr eval --baselines`:

    pip install -e ".[train,baselines,bench]"          (Python 3.10 or 3.11, which RecBole 1.2.1 needs)

usage: baselines.py DATA [--run RUN_OR_BUNDLE ...] [--methods ease sasrec ...] [--seeds 3] [--trials 12] [--patience 10]
                    [--results FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from flr_model.artifacts import open_folder
from flr_model.config import EvalConfig
from flr_model.data.dataset import Dataset
from flr_model.data.histories import PAD
from flr_model.errors import ArtifactError, FlrError, needs_extra
from flr_model.evaluation import metrics, tuned
from flr_model.evaluation.baselines import BASELINES
from flr_model.evaluation.evaluate import COVERAGE_AT, rank_rows
from flr_model.ranking.recommender import Ints, Scorer
from flr_model.writing import FILE, claim

SHOWN = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")
RESAMPLES = 1000

Setting = Mapping[str, Any]

GRIDS: dict[str, list[dict[str, Any]]] = {
    "pop": [{}],
    "cooc": [{}],
    **tuned.GRIDS,
    "gru4rec": [
        {"embedding_size": size, "hidden_size": 2 * size, "dropout_prob": dropout}
        for dropout in (0.5, 0.2)
        for size in (64, 128)
    ],
    "sasrec": [
        {
            "hidden_size": size,
            "inner_size": 4 * size,
            "hidden_dropout_prob": dropout,
            "attn_dropout_prob": dropout,
        }
        for dropout in (0.5, 0.2)
        for size in (64, 128)
    ],
}
"""Settings per method, in the order in which they are tried; what a setting does not name is the library's default."""

UNSEEDED = ("pop", "cooc", "itemknn", "ease")
"""Methods without a random part: one fit stands for all seeds."""

progress = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Trial:
    """One fit: how well it ranks the validation rows, and what it cost."""

    setting: Setting
    seed: int
    valid: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """A method after tuning.

    Args:
        trials: one per setting, seed 0.
        fits: the best setting, one per seed.
        ranks: of the test rows' targets, (R,) per seed.
    """

    trials: list[Trial]
    fits: list[Trial]
    ranks: list[Ints]


class Bench:
    """A dataset folder: fits methods on its training rows and ranks its other rows."""

    def __init__(self, folder: Path, patience: int) -> None:
        dataset = Dataset.open(folder)
        self.catalog, self.fingerprint = dataset.catalog, dataset.fingerprint()
        self.patience = patience
        splits = {split: dataset.rows(split) for split in ("train", "valid", "test")}
        self.rows = {split: rows.select(rows.target != PAD) for split, rows in splits.items()}

    def ranks(self, scorer: Scorer, split: str) -> Ints:
        """Return (R,) 0-based ranks of the targets, as `flr eval` counts them."""
        return rank_rows(scorer, self.rows[split], self.catalog, EvalConfig(split=split))[0]

    def valid_ndcg(self, scorer: Scorer) -> float:
        """Return the mean NDCG@10 of the validation rows."""
        return float(metrics.ndcg(self.ranks(scorer, "valid"), COVERAGE_AT).mean())

    def scorer(self, method: str, setting: Setting, seed: int) -> Scorer:
        """Fit a method on the training rows."""
        train, n_items = self.rows["train"], len(self.catalog)
        if method in BASELINES:
            return BASELINES[method].fit(train, n_items)
        tuned.check_installed([method])
        if method in tuned.FITS:
            return tuned.FITS[method](train, n_items, **setting, **({} if method in UNSEEDED else {"seed": seed}))
        with needs_extra("bench"):
            import libraries
        return libraries.fit_sequential(
            method, train, n_items, setting, seed=seed, validate=self.valid_ndcg, patience=self.patience
        )

    def trial(self, method: str, setting: Setting, seed: int) -> tuple[Trial, Scorer]:
        """Fit once and look at the validation rows."""
        began = time.perf_counter()
        scorer = self.scorer(method, setting, seed)
        seconds = time.perf_counter() - began
        trial = Trial(setting, seed, self.valid_ndcg(scorer), seconds)
        words = " ".join([method, *(f"{name}={value}" for name, value in setting.items())])
        progress.print(f"{words}, seed {seed}: validation NDCG@10 {trial.valid:.4f}, {seconds:.0f} s")
        return trial, scorer

    def tune(self, method: str, settings: Sequence[Setting], seeds: int) -> Result:
        """Choose a setting on the validation rows with seed 0, fit it for all seeds, and rank the test rows."""
        trials, best = [], None
        for setting in settings:
            trial, scorer = self.trial(method, setting, 0)
            trials.append(trial)
            if best is None or trial.valid > best[0].valid:
                best = trial, scorer
        assert best is not None
        more = [] if method in UNSEEDED else range(1, seeds)
        fits = [best, *(self.trial(method, best[0].setting, seed) for seed in more)]
        return Result(trials, [fit for fit, _ in fits], [self.ranks(scorer, "test") for _, scorer in fits])


def load(source: Path, dataset: str) -> Scorer:
    """Open a run or a bundle of flr.

    Raises:
        ArtifactError: if it was made from another dataset.
    """
    manifest = open_folder(source, "run", "bundle")
    if manifest.content["dataset_fingerprint"] != dataset:
        raise ArtifactError(f"{source} was made from another dataset", hint="pass the dataset that it was trained on")
    if manifest.kind == "bundle":
        from flr_export.runtime import load_bundle

        return load_bundle(source)
    from flr_model.nn.run import load_recommender as load_run

    return load_run(source)


def mean_ndcg(ranks: Sequence[Ints]) -> npt.NDArray[np.float64]:
    """Return (R,) each row's NDCG@10, the mean over the seeds."""
    return np.mean([metrics.ndcg(of_seed, COVERAGE_AT) for of_seed in ranks], axis=0)


def table_of(results: Mapping[str, Result], own: Sequence[Ints], title: str) -> Table:
    """Lay out the methods, each a mean over its seeds, and how far flr is above them.

    Args:
        results: by method.
        own: (R,) ranks of the test rows by each run of flr; may be empty.
        title: above the table.
    """
    table = Table(title=title, title_justify="left")
    for column in ("", *SHOWN, "seeds", "valid NDCG@10", "fit s", "trials", "tuning s", "flr above it, NDCG@10 (95 %)"):
        table.add_column(column, justify="right" if column else "left")
    for method, result in results.items():
        fits = result.fits
        table.add_row(
            method,
            *_figures(result.ranks),
            str(len(fits)),
            f"{np.mean([fit.valid for fit in fits]):.4f}",
            f"{np.mean([fit.seconds for fit in fits]):.1f}",
            str(len(result.trials)),
            f"{sum(trial.seconds for trial in result.trials):.0f}",
            _difference(own, result.ranks) if own else "",
        )
    if own:
        table.add_row("flr", *_figures(own), str(len(own)))
    return table


def _figures(ranks: Sequence[Ints]) -> list[str]:
    rows = [metrics.means(of_seed) for of_seed in ranks]
    return [f"{np.mean([row[name] for row in rows]):.4f}" for name in SHOWN]


def _difference(own: Sequence[Ints], other: Sequence[Ints]) -> str:
    mean, low, high = metrics.paired_difference(mean_ndcg(own), mean_ndcg(other), RESAMPLES, seed=0)
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def read_results(path: Path | None, dataset: str) -> dict[str, Result]:
    """Read what an earlier call wrote; nothing if there is no such file.

    Raises:
        ArtifactError: if the file is of another dataset.
    """
    if path is None or not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content["dataset"] != dataset:
        raise ArtifactError(f"{path} has results of another dataset", hint="name another file with --results")
    return {
        method: Result(
            [Trial(**trial) for trial in found["trials"]],
            [Trial(**fit) for fit in found["fits"]],
            [np.asarray(ranks, np.int64) for ranks in found["ranks"]],
        )
        for method, found in content["methods"].items()
    }


def write_results(path: Path, dataset: str, results: Mapping[str, Result]) -> None:
    """Write settings, seeds, times, test metrics and ranks of every method."""
    methods = {
        method: {
            "trials": [asdict(trial) for trial in result.trials],
            "fits": [asdict(fit) for fit in result.fits],
            "test": [metrics.means(ranks) for ranks in result.ranks],
            "ranks": [ranks.tolist() for ranks in result.ranks],
        }
        for method, result in results.items()
    }
    with claim(path, FILE, overwrite=True) as place, place.file() as file:
        file.write_text(json.dumps({"dataset": dataset, "methods": methods}))


def main() -> None:
    """Tune, fit and rank every method that was asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder written by `flr prepare`")
    parser.add_argument("--run", type=Path, nargs="+", default=[], help="runs or bundles of flr, one per seed")
    parser.add_argument("--methods", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=12, help="most settings tried per method")
    parser.add_argument("--patience", type=int, default=10, help="epochs without a better validation NDCG@10")
    parser.add_argument("--results", type=Path, help="JSON file of results; methods that it has are not fitted again")
    arguments = parser.parse_args()
    bench = Bench(arguments.data, arguments.patience)
    results = read_results(arguments.results, bench.fingerprint)
    for method in arguments.methods:
        if method not in results:
            results[method] = bench.tune(method, GRIDS[method][: arguments.trials], arguments.seeds)
            if arguments.results:
                write_results(arguments.results, bench.fingerprint, results)
    own = [bench.ranks(load(source, bench.fingerprint), "test") for source in arguments.run]
    title = f"{len(bench.rows['test']):,} test rows, all {len(bench.catalog):,} items ranked, ties against the target"
    table = table_of({method: results[method] for method in arguments.methods}, own, title)
    Console(width=200).print(table)


if __name__ == "__main__":
    try:
        main()
    except FlrError as error:
        sys.exit(f"{error}; {error.hint}")
