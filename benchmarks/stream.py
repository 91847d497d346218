"""Alignment on a stream: a run goes on with the rewards of each period and is measured on the one after.

The run was trained on the oldest interactions (`flr prepare --split temporal`, or ready-made splits). Its validation
and test rows, in order of time, are cut into periods of equally many rows. Each setting starts from the run, aligns on
one period after another, rows that nothing has learned from, and ranks the rows of the next one; beside it the run as
it is. The users of the stream are new to the counts, so that nothing of theirs is left out.

usage: stream.py RUN [--periods 8] [--seeds 3] [--batch-size 64] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import set_seed

from flr_model.config import AlignConfig, EvalConfig
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.evaluation.metrics import Doubles
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.run import load_run
from flr_model.progress import SILENT
from flr_model.training.grpo import optimise
from flr_model.training.setup import trainable

console = Console(width=150)
SETTINGS: dict[str, dict[str, Any]] = {
    "noise 0.5, kl 0 (default)": {},
    "noise 0.1": {"noise": 0.1},
    "noise 1": {"noise": 1.0},
    "kl 0.1": {"kl": 0.1},
    "kl 1": {"kl": 1.0},
    "noise auto, kl auto": {"noise": None, "kl": None},
    "gates, kl 0": {"policy": "gates"},
    "gates, kl 1": {"policy": "gates", "kl": 1.0},
    "gates, kl auto": {"policy": "gates", "kl": None},
}


def periods_of(dataset: Dataset, n: int) -> list[HistoryRows]:
    """Return the rows behind the training rows, oldest first, in n parts, of users whom the counts do not know."""
    rows = HistoryRows.concatenate([dataset.rows("valid"), dataset.rows("test")])
    rows = replace(rows, user_id=np.char.add("later ", rows.user_id.astype(str)))
    by_time = np.argsort(rows.target_time, kind="stable")
    return [rows.select(np.sort(part)) for part in np.array_split(by_time, n)]


def ndcg(recommender: TrainableRecommender, rows: HistoryRows) -> Doubles:
    """Return (R,) NDCG@10 of the present state."""
    present = recommender.eval().recommender()
    return metrics.ndcg(rank_rows(present, rows, present.catalog, EvalConfig())[0], 10)


def follow(run: Path, periods: list[HistoryRows], config: AlignConfig | None) -> list[Doubles]:
    """Go through the periods with one setting, or with none, and return the NDCG@10 of the rows from the second on."""
    loaded = load_run(run)
    recommender = trainable(loaded, Dataset.of(loaded.manifest, None).rows("train"))
    found = []
    for rows, following in pairwise(periods):
        if config is not None:
            set_seed(config.seed)
            with tempfile.TemporaryDirectory(prefix="flr-stream-") as folder:
                optimise(recommender, rows, config, None, folder=Path(folder), progress=SILENT)
        found.append(ndcg(recommender, following))
    return found


def main() -> None:
    """Follow the stream with every setting and seed; what is finished is kept in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--periods", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path("stream"))
    arguments = parser.parse_args()
    logging.basicConfig(level="WARNING")
    logging.getLogger("flr_model").setLevel("INFO")
    arguments.folder.mkdir(exist_ok=True)
    periods = periods_of(Dataset.of(load_run(arguments.run).manifest, None), arguments.periods)
    console.print(f"{arguments.periods} periods of {len(periods[0]):,} rows")
    without = np.concatenate(follow(arguments.run, periods, None))
    table = Table("setting", "NDCG@10", "minus the run as it is (95 %)")
    table.add_row("the run as it is", f"{without.mean():.4f}", "")
    for name, setting in SETTINGS.items():
        seeds = [
            cached(arguments.folder / f"{name} {seed}.json", arguments, periods, {**setting, "seed": seed})
            for seed in range(arguments.seeds)
        ]
        mean, low, high = metrics.paired_difference(np.mean(seeds, axis=0), without, 2000, 0)
        figures = ", ".join(f"{np.mean(one):.4f}" for one in seeds)
        table.add_row(name, figures, f"{mean:+.4f} ({low:+.4f} to {high:+.4f})")
        console.print(table)


def cached(path: Path, arguments: argparse.Namespace, periods: list[HistoryRows], setting: dict[str, Any]) -> Doubles:
    """Return what following the stream gives, from a file if it was done before."""
    if not path.exists():
        config = AlignConfig(max_rows=None, batch_size=arguments.batch_size, **setting)
        path.write_text(json.dumps(np.concatenate(follow(arguments.run, periods, config)).tolist()))
    return np.asarray(json.loads(path.read_text()))


if __name__ == "__main__":
    main()
