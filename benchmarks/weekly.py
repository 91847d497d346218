"""The tables of docs/weekly.md: a shop week by week, its run updated, trained from nothing, or left as it is.

The first run is trained on all but the last WEEKS weeks. Then every week ends with `flr update`, with a training from
nothing on the very rows of the update, and with nothing at all; each model ranks the rows of the week that follows,
which none has seen. Items that a model does not know yet are ranked by their titles.

What is forgotten: some users are left out of every file that trains. Each model of each week also ranks their rows of
the time before the first week, so that rows stay the same and none has ever been learned.

SOURCE is a folder of interactions.csv (user_id, item_id, timestamp) and items.csv (item_id, title), or of RecBole's
atomic files, such as `flr fetch ml-100k` brings.

usage: weekly.py SOURCE [--weeks 5] [--share 1.0] [--aside 0.1] [--seed 0] [--folder bench-weekly]
                 [OPTIONS OF flr train]
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from stages import Stage, console, flr

from flr.recommender import open_recommender
from flr_model.artifacts import open_folder
from flr_model.config import EvalConfig, PrepareConfig
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows, OlderItems
from flr_model.data.prepare import Sources, prepare
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.evaluation.metrics import Doubles

WEEK = 7 * 86_400
WAYS = ("left as it is", "updated", "from nothing")
OLD_ROWS = 5_000


@dataclass(frozen=True)
class Shop:
    """What a shop has: a file of interactions and one of items for the end of every week, and everything as a dataset.

    Args:
        folder: of the files.
        start: seconds, when the first week begins.
        aside: users who are in no file of a week.
    """

    folder: Path
    start: float
    aside: frozenset[str]

    @classmethod
    def write(cls, source: Path, folder: Path, arguments: argparse.Namespace) -> Shop:
        """Write the files of some of the users."""
        orders, items = read(source, "interactions.csv", "*.inter"), read(source, "items.csv", "*.item")
        orders["timestamp"] = pd.to_numeric(orders.timestamp)
        users = np.random.default_rng(arguments.seed).permutation(orders.user_id.unique())
        users = users[: round(arguments.share * len(users))]
        aside = frozenset(users[: round(arguments.aside * len(users))])
        orders = orders[orders.user_id.isin(users)]
        items = items[items.item_id.isin(orders.item_id)]
        start = float(orders.timestamp.max()) + 1 - arguments.weeks * WEEK
        orders.to_csv(folder / "all.csv", index=False)
        items.to_csv(folder / "all-items.csv", index=False)
        prepare(
            Sources(interactions=folder / "all.csv", items=folder / "all-items.csv"), folder / "all", PrepareConfig()
        )
        learned = orders[~orders.user_id.isin(aside)]
        for week in range(arguments.weeks):
            until = learned[learned.timestamp < start + week * WEEK]
            until.to_csv(folder / f"orders-{week}.csv", index=False)
            items[items.item_id.isin(until.item_id)].to_csv(folder / f"items-{week}.csv", index=False)
        return cls(folder, start, aside)

    def files(self, week: int) -> tuple[str, str]:
        """Return the files of interactions and items at the end of a week; 0: before the first."""
        return str(self.folder / f"orders-{week}.csv"), str(self.folder / f"items-{week}.csv")

    def rows(self) -> HistoryRows:
        """Return a row for every interaction of everybody."""
        dataset = Dataset.open(self.folder / "all")
        return HistoryRows.concatenate([dataset.rows(split) for split in ("train", "valid", "test")])

    def rows_of_week(self, week: int) -> HistoryRows:
        """Return the rows whose target is of the week after so many weeks, of the users who are learned from."""
        rows, start = self.rows(), self.start + week * WEEK
        in_week = (rows.target_time >= start) & (rows.target_time < start + WEEK)
        return rows.select(in_week & ~np.isin(rows.user_id.astype(str), list(self.aside)))

    def old_rows(self) -> HistoryRows:
        """Return rows of the time before the first week, of the users who are never learned from."""
        rows = self.rows()
        old = (rows.target_time < self.start) & np.isin(rows.user_id.astype(str), list(self.aside))
        return rows.select(old).subsample(OLD_ROWS)


@dataclass(frozen=True)
class Week:
    """What the models of a week make of the rows that follow, and of old ones.

    Args:
        name: of the week.
        following: (R,) NDCG@10 of each row by way.
        old: likewise of the old rows.
        update: the command.
        training: the command, from nothing.
    """

    name: str
    following: dict[str, Doubles]
    old: dict[str, Doubles]
    update: Stage
    training: Stage


def main() -> None:
    """Make the weeks' files and go through the weeks; the tables are printed after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--weeks", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the users")
    parser.add_argument("--aside", type=float, default=0.1, help="of these users, for what is forgotten")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("bench-weekly"))
    arguments, train = parser.parse_known_args()
    folder, seed = arguments.folder, arguments.seed
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shop = Shop.write(arguments.source, folder, arguments)
    words = ["--quiet", "--seed", str(seed), *train]
    orders, items = shop.files(0)
    flr("prepare", "--interactions", orders, "--items", items, "--out", str(folder / "data-0"), "--quiet")
    first = flr("train", str(folder / "data-0"), "--out", str(folder / "run-0"), *words)
    console.print(f"first training: {first.cpu_seconds:.0f} s of processor time")
    old = shop.old_rows()
    left = measure(shop, folder / "run-0", old)
    weeks = []
    for week in range(1, arguments.weeks):
        orders, items = shop.files(week)
        run, anew = folder / f"run-{week}", folder / f"new-{week}"
        update = flr(
            "update", str(folder / f"run-{week - 1}"), orders, "--items", items, "--out", str(run), "--quiet",
            "--max-loss", "1", "--seed", str(seed),
        )  # fmt: skip
        training = flr("train", f"{run}-data", "--out", str(anew), *words)
        rows = shop.rows_of_week(week)
        following = [measure(shop, one, rows) for one in (folder / "run-0", run, anew)]
        before = [left, measure(shop, run, old), measure(shop, anew, old)]
        weeks.append(Week(str(week), *(dict(zip(WAYS, b, strict=True)) for b in (following, before)), update, training))
        show(weeks, seed)


def read(source: Path, name: str, atomic: str) -> pd.DataFrame:
    """Read a CSV file, or one of RecBole's atomic files where there is no such, as texts."""
    if (source / name).exists():
        return pd.read_csv(source / name, dtype=str)
    (path,) = source.glob(atomic)
    frame = pd.read_csv(path, sep="\t", dtype=str)
    return frame.rename(columns=lambda column: column.split(":")[0]).rename(columns={"movie_title": "title"})


def measure(shop: Shop, run: Path, rows: HistoryRows) -> Doubles:
    """Return NDCG@10 of each row by a run that is told the titles of the items it lacks."""
    catalog = Dataset.open(shop.folder / "all").catalog
    recommender = open_recommender(run, open_folder(run, "run"))
    lacking = recommender.catalog.positions(catalog.item_ids) < 0
    recommender = recommender.with_items(catalog.item_ids[lacking].tolist(), catalog.titles[lacking].tolist())
    place = recommender.catalog.positions(catalog.item_ids)
    older = rows.older and OlderItems(place[rows.older.items], rows.older.start, rows.older.stop)
    rows = replace(rows, items=place[rows.items], target=place[rows.target], older=older)
    return metrics.ndcg(rank_rows(recommender, rows, recommender.catalog, EvalConfig())[0], 10)


def show(weeks: Sequence[Week], seed: int) -> None:
    """Print what follows, what is old, and what it costs, as Markdown."""
    whole = {way: np.concatenate([week.following[way] for week in weeks]) for way in WAYS}
    following = [*((week.name, week.following) for week in weeks), ("all", whole)]
    accuracy("NDCG@10 on the week that follows", following, seed)
    old = [(week.name, week.old) for week in weeks]
    accuracy("NDCG@10 on rows before the first week, of users whom no model has learned from", old, seed)
    seconds = [(week.name, f"{week.update.cpu_seconds:.0f}", f"{week.training.cpu_seconds:.0f}") for week in weeks]
    markdown("Processor time of the commands, s", ("week", "update", "training from nothing"), seconds)


def accuracy(title: str, lines: Sequence[tuple[str, dict[str, Doubles]]], seed: int) -> None:
    """Print the three ways, and how the update compares with the other two, paired by row."""
    rows = []
    for name, ndcg in lines:
        differences = []
        for other in (WAYS[0], WAYS[2]):
            mean, low, high = metrics.paired_difference(ndcg["updated"], ndcg[other], 1000, seed)
            differences.append(f"{mean:+.4f} ({low:+.4f}..{high:+.4f})")
        rows.append((name, f"{len(ndcg['updated']):,}", *(f"{ndcg[way].mean():.4f}" for way in WAYS), *differences))
    markdown(title, ("week", "rows", *WAYS, "updated - left", "updated - from nothing"), rows)


def markdown(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as the docs have it."""
    lines = [header, ["---"] * len(header), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    console.print(f"\n{title}\n\n{text}", soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    main()
