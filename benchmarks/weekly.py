"""The table of docs/weekly.md: a shop week by week, its run updated, trained from nothing, or left as it is.

The first run is trained on all but the last WEEKS weeks. Then every week ends with `flr update`, with a training from
nothing on the very rows of the update, and with nothing at all; each model ranks the rows of the week that follows,
which none has seen. Items that a model does not know yet are ranked by their titles.

usage: weekly.py SOURCE [--weeks 5] [--share 1.0] [--seed 0] [--folder bench-weekly] [OPTIONS OF flr train]
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from stages import console, flr

from flr.recommender import open_recommender
from flr_model.artifacts import open_folder
from flr_model.config import EvalConfig, PrepareConfig
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows, OlderItems
from flr_model.data.prepare import Sources, prepare
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows

WEEK = 7 * 86_400
WAYS = ("left as it is", "updated", "from nothing")


def main() -> None:
    """Make the weeks' files and go through the weeks; the table is printed after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--weeks", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the users")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("bench-weekly"))
    arguments, train = parser.parse_known_args()
    folder, weeks = arguments.folder, arguments.weeks
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = write_weeks(arguments.source, folder, weeks, arguments.share, arguments.seed)
    words = ["--quiet", "--seed", str(arguments.seed), *train]
    flr("prepare", *files(folder, 0), "--out", str(folder / "data-0"), "--quiet")
    first = flr("train", str(folder / "data-0"), "--out", str(folder / "run-0"), *words)
    prepare(Sources(interactions=folder / "all.csv", items=folder / "all-items.csv"), folder / "all", PrepareConfig())
    console.print(f"first training: {first.cpu_seconds:.0f} s of processor time")
    results = []
    for week in range(1, weeks):
        new, data = folder / f"run-{week}", str(folder / f"run-{week}-data")
        orders, items = files(folder, week)[1], files(folder, week)[3]
        update = flr(
            "update", str(folder / f"run-{week - 1}"), orders, "--items", items, "--out", str(new), "--quiet",
            "--max-loss", "1", "--seed", str(arguments.seed),
        )  # fmt: skip
        trained = flr("train", data, "--out", str(folder / f"new-{week}"), *words)
        rows = rows_between(folder / "all", start + week * WEEK, start + (week + 1) * WEEK)
        runs = (folder / "run-0", new, folder / f"new-{week}")
        ndcg = dict(zip(WAYS, (measure(run, folder / "all", rows) for run in runs), strict=True))
        results.append((week, ndcg, update.cpu_seconds, trained.cpu_seconds))
        show(results, arguments.seed)


def write_weeks(source: Path, folder: Path, weeks: int, share: float, seed: int) -> float:
    """Write what the shop has at the end of every week, and everything; return when the last weeks begin."""
    orders = pd.read_csv(source / "interactions.csv", dtype={"user_id": str, "item_id": str})
    items = pd.read_csv(source / "items.csv", dtype=str)
    users = np.random.default_rng(seed).permutation(orders.user_id.unique())
    orders = orders[orders.user_id.isin(users[: round(share * len(users))])]
    start = float(orders.timestamp.max()) + 1 - weeks * WEEK
    orders.to_csv(folder / "all.csv", index=False)
    items.to_csv(folder / "all-items.csv", index=False)
    for week in range(weeks):
        until = orders[orders.timestamp < start + week * WEEK]
        until.to_csv(folder / f"orders-{week}.csv", index=False)
        items[items.item_id.isin(until.item_id)].to_csv(folder / f"items-{week}.csv", index=False)
    return start


def files(folder: Path, week: int) -> list[str]:
    """Return the options of `flr prepare` that name the files of a week."""
    return ["--interactions", str(folder / f"orders-{week}.csv"), "--items", str(folder / f"items-{week}.csv")]


def rows_between(data: Path, start: float, stop: float) -> HistoryRows:
    """Return the rows of a dataset whose target is of a time."""
    dataset = Dataset.open(data)
    rows = HistoryRows.concatenate([dataset.rows(split) for split in ("train", "valid", "test")])
    return rows.select((rows.target_time >= start) & (rows.target_time < stop))


def measure(run: Path, data: Path, rows: HistoryRows) -> Any:
    """Return NDCG@10 of each row by a run that is told the titles of the items it lacks."""
    catalog = Dataset.open(data).catalog
    recommender = open_recommender(run, open_folder(run, "run"))
    lacking = recommender.catalog.positions(catalog.item_ids) < 0
    recommender = recommender.with_items(catalog.item_ids[lacking].tolist(), catalog.titles[lacking].tolist())
    place = recommender.catalog.positions(catalog.item_ids)
    older = rows.older and OlderItems(place[rows.older.items], rows.older.start, rows.older.stop)
    rows = replace(rows, items=place[rows.items], target=place[rows.target], older=older)
    return metrics.ndcg(rank_rows(recommender, rows, recommender.catalog, EvalConfig())[0], 10)


def show(results: list[Any], seed: int) -> None:
    """Print a line for every week, and one for all."""
    table = Table("week", "rows", *WAYS, "updated - left", "updated - from nothing", "update, CPU s", "training, CPU s")
    whole = {way: np.concatenate([ndcg[way] for _, ndcg, *_ in results]) for way in WAYS}
    seconds = [sum(line[place] for line in results) for place in (2, 3)]
    for name, ndcg, updating, training in [*results, ("all", whole, *seconds)]:
        differences = []
        for other in (WAYS[0], WAYS[2]):
            mean, low, high = metrics.paired_difference(ndcg["updated"], ndcg[other], 1000, seed)
            differences.append(f"{mean:+.4f} ({low:+.4f}..{high:+.4f})")
        values = [f"{ndcg[way].mean():.4f}" for way in WAYS]
        table.add_row(str(name), str(len(ndcg["updated"])), *values, *differences, f"{updating:.0f}", f"{training:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
