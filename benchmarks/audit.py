"""Check a leave-one-out result from the raw CSV, by another library's metrics.

Written against the raw files with pandas and ranx alone, so that an error of flr's own preparation or evaluation would
show: the last item of a user is the test target, the last but one the validation target, the rest is training.

1. The recommendations of `flr score` for the raw histories, judged by ranx, beside what `flr eval` says.
2. What training counted: every item's number of interactions and the number of pairs, beside a count of the raw rows
   without the last two of each user; a validation or test interaction among them would make them differ.
3. With --permuted: the titles of all items change places, and the same recipe is trained again. What is left is what
   the counts know.

usage: audit.py SOURCE DATA BUNDLE [--permuted] [--folder audit]      (pip install -e ".[train,cpu,bench]")
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from ranx import Qrels, Run, evaluate
from rich.table import Table
from stages import console, flr

from flr_model.data.dataset import Dataset
from flr_model.ranking.lags import BUCKETS
from flr_model.ranking.pair_events import PairEvents

TOLERANCE = 2e-4
"""Of a metric: `flr eval` lets ties go against the target, and a top ten has to break them."""

RANX = {"hit_rate@5": "HR@5", "ndcg@5": "NDCG@5", "hit_rate@10": "HR@10", "ndcg@10": "NDCG@10"}


def main() -> None:
    """Run the checks and exit with 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with interactions.csv and items.csv")
    parser.add_argument("data", type=Path, help="dataset that was prepared from it with --split leave-one-out")
    parser.add_argument("bundle", type=Path, help="bundle of a run that was trained on the dataset")
    parser.add_argument("--permuted", action="store_true", help="train with permuted titles too")
    parser.add_argument("--folder", type=Path, default=Path("audit"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    raw = read_raw(arguments.source / "interactions.csv")
    holds = [metrics_agree(raw, arguments.bundle, arguments.folder), counts_agree(raw, arguments.data)]
    if arguments.permuted:
        show_permuted(arguments.source, arguments.folder)
    sys.exit(0 if all(holds) else 1)


def read_raw(path: Path) -> pd.DataFrame:
    """Return user_id, item_id, timestamp in order, and how far each row is from its user's last one."""
    raw = pd.read_csv(path, dtype={"user_id": str, "item_id": str})
    raw = raw.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True)
    raw["from_last"] = raw.groupby("user_id").cumcount(ascending=False)
    return raw


def metrics_agree(raw: pd.DataFrame, bundle: Path, folder: Path) -> bool:
    """Judge the recommendations for all histories without the last item, and compare with `flr eval`."""
    histories, recs = folder / "histories.csv", folder / "recs.csv"
    raw.loc[raw.from_last > 0, ["user_id", "item_id", "timestamp"]].to_csv(histories, index=False)
    flr("score", str(bundle), str(histories), "--out", str(recs), "--overwrite", "--quiet")
    found = pd.read_csv(recs, dtype={"user_id": str, "item_id": str})
    found["score"] = -found["rank"].astype(float)
    targets = raw.loc[raw.from_last == 0, ["user_id", "item_id"]].assign(relevance=1)
    ids = {"user_id": object, "item_id": object}  # ranx takes no other type of text
    qrels = Qrels.from_df(targets.astype(ids), q_id_col="user_id", doc_id_col="item_id", score_col="relevance")
    run = Run.from_df(found.astype(ids), q_id_col="user_id", doc_id_col="item_id", score_col="score")
    judged = evaluate(qrels, run, list(RANX), make_comparable=True)
    own = json.loads(flr("eval", str(bundle), "--json", "--quiet").output)["metrics"]
    return show_agreement("metrics of the test rows", {ours: (judged[name], own[ours]) for name, ours in RANX.items()})


def counts_agree(raw: pd.DataFrame, data: Path) -> bool:
    """Count the raw training interactions and pairs, and compare with what training counts."""
    dataset = Dataset.open(data)
    events = PairEvents.count(dataset.rows("train"), len(dataset.catalog))
    train = raw[raw.from_last >= 2]
    degree = train.item_id.value_counts().reindex(dataset.catalog.item_ids.tolist(), fill_value=0)
    users = [items.to_numpy() for _, items in train.groupby("user_id", sort=False).item_id]
    pairs = sum(int((items[:-gap] != items[gap:]).sum()) for items in users for gap in range(1, BUCKETS[-1] + 1))
    differing = int((degree.to_numpy() != events.degree).sum())
    figures = {
        "interactions": (len(train), int(events.degree.sum())),
        "items whose number of interactions differs": (0, differing),
        "pairs within fifty steps, in both directions": (2 * pairs, len(events.event_pair)),
    }
    return show_agreement("what training counts", figures)


def show_agreement(title: str, figures: Mapping[str, tuple[float, float]]) -> bool:
    """Print figures of the raw files beside flr's, and return whether they agree."""
    table = Table(title=title, title_justify="left")
    for column in ("", "from the raw CSV", "flr"):
        table.add_column(column, justify="right" if column else "left")
    for name, pair in figures.items():
        table.add_row(name, *(f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for value in pair))
    console.print(table)
    agree = all(abs(raw - own) <= TOLERANCE for raw, own in figures.values())
    console.print("they agree" if agree else "THEY DIFFER")
    return agree


def show_permuted(source: Path, folder: Path) -> None:
    """Train with permuted titles and print what is left beside the counts."""
    items = pd.read_csv(source / "items.csv", dtype=str)
    items["title"] = items["title"].to_numpy()[np.random.default_rng(0).permutation(len(items))]
    permuted, data, run = folder / "permuted.csv", str(folder / "permuted-data"), str(folder / "permuted-run")
    items.to_csv(permuted, index=False)
    files = ["--interactions", str(source / "interactions.csv"), "--items", str(permuted)]
    flr("prepare", *files, "--split", "leave-one-out", "--out", data, "--overwrite")
    flr("train", data, "--out", run, "--overwrite", "--quiet")
    found = json.loads(flr("eval", run, "--json", "--quiet").output)
    for name, row in {**found["baselines"], "flr, titles permuted": found["metrics"]}.items():
        console.print(f"{name}: HR@10 {row['HR@10']:.4f}, NDCG@10 {row['NDCG@10']:.4f}")


if __name__ == "__main__":
    main()
