"""The main job from nothing to recommendations: MovieLens-100K and SmolLM2 on this machine's CPU.

Runs the commands a person would type and prints each before it runs; `make demo` calls this.

usage: demo.py [--folder demo]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
from rich.table import Table
from stages import console, flr

USERS = 3


def main() -> None:
    """Fetch, prepare, train, align, evaluate, export and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data, run, aligned, bundle, recs = (str(folder / n) for n in ("data", "run", "aligned", "bundle", "recs.csv"))
    began = time.perf_counter()
    flr("fetch", "smollm2-135m")
    flr("fetch", "minilm")
    movies = Path(flr("fetch", "ml-100k").output.strip())
    interactions, items = str(movies / "ml-100k.inter"), str(movies / "ml-100k.item")
    console.print(flr("prepare", "--interactions", interactions, "--items", items, "--out", data).output, markup=False)
    console.print(flr("train", data, "--out", run).output, markup=False)
    console.print(flr("align", run, "--out", aligned).output, markup=False)
    report = json.loads(flr("eval", aligned, "--json").output)
    console.print(flr("export", aligned, "--onnx", "--out", bundle).output, markup=False)
    console.print(flr("score", bundle, interactions, "--out", recs, "--top-k", "10").output, markup=False)
    show_metrics(report)
    show_recommendations(Path(recs), Path(data))
    console.print(f"\n{time.perf_counter() - began:.0f} s in all; everything lies in {folder}/", highlight=False)
    beaten = all(report["metrics"]["NDCG@10"] > row["NDCG@10"] for row in report["baselines"].values())
    sys.exit(0 if beaten else 4)


def show_metrics(report: dict) -> None:  # type: ignore[type-arg]
    """Print the model beside the baselines on the test split."""
    table = Table(title="test split, all movies ranked", title_justify="left")
    names = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR@10")
    for column in ("", *names):
        table.add_column(column, justify="right" if column else "left")
    for label, row in (("flr", report["metrics"]), *report["baselines"].items()):
        table.add_row(label, *(f"{row[name]:.4f}" for name in names))
    console.print(table)


def show_recommendations(recs: Path, data: Path) -> None:
    """Print ten recommendations for the last users of the test split."""
    users = pd.read_parquet(data / "test.parquet").user_id.drop_duplicates(keep="last").tail(USERS).tolist()
    titles = pd.read_parquet(data / "items.parquet").title
    histories = pd.read_parquet(data / "test.parquet").drop_duplicates("user_id", keep="last").set_index("user_id")
    found = pd.read_csv(recs, dtype={"user_id": str})
    for user in users:
        row = histories.loc[user]
        newest = [*row.history[-4:], row.target]
        console.print(f"\nuser {user}, who last watched: {', '.join(titles[i] for i in newest)}", highlight=False)
        table = Table(box=None)
        parts = [name for name in found.columns if name.startswith("factor_") or name == "counted"]
        for column in ("rank", "title", "score", *parts, "because_title"):
            table.add_column(column, justify="left" if column.endswith("title") else "right")
        for line in found[found.user_id == user].fillna({"because_title": ""}).itertuples():
            shares = (f"{getattr(line, name):.2f}" for name in parts)
            table.add_row(str(line.rank), line.title, f"{line.score:.4f}", *shares, line.because_title)
        console.print(table)


if __name__ == "__main__":
    main()
