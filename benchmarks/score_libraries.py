"""How fast `flr score` is beside what users would pick instead: implicit's ALS and RecBole's SASRec, files written.

Everybody gets the same file of users and their histories, reads it, ranks the whole catalogue without what each user
had, and writes ten items a user as CSV, in a process of its own; start and imports count. What was fitted lies on disk
before; each process imports only what it needs. SASRec's weights are as drawn, which does not change the time.

usage: score_libraries.py DATA BUNDLE --histories TEST.CSV [--users 60000] [--rounds 3]
       (pip install -e ".[train,baselines,bench]")
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from flr_model.arrays import Floats, Ints
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows

if TYPE_CHECKING:
    import torch

TOP_K = 10
BATCH = 1024
"""Users that a library ranks at once."""

LENGTH = 20
"""Items of a history that SASRec reads."""

ALS: dict[str, Any] = {"factors": 256, "alpha": 40.0, "regularization": 0.4}
"""What was chosen on the CDs (docs/results.md, "Baselines")."""

Best = tuple[Ints, Floats]
"""Positions of the best items of a batch, and their scores, (B, k) each."""


def main() -> None:
    """Fit, write the users, and time each method by turns; or be one of the methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--histories", type=Path, required=True)
    parser.add_argument("--users", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", choices=list(METHODS), help="rank with it, as a process that is timed")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.method:
        write(METHODS[given.method](given.data, given.bundle), given.data, given.histories, given.out)
        return
    with tempfile.TemporaryDirectory(prefix="flr-score-") as folder:
        compare(given.data, given.bundle, given.histories, given.users, given.rounds, Path(folder))


def compare(data: Path, bundle: Path, histories: Path, n_users: int, rounds: int, folder: Path) -> None:
    """Time `flr score` and the libraries on the same users and print the table; the best of some rounds counts."""
    from score import repeated  # here, for a method's process should not pay for what it imports

    users = repeated(histories, folder / "users.csv", n_users)
    fit(data, folder)
    commands = {"flr score": [sys.executable, "-m", "flr_cli", "score", str(bundle), str(users), "--quiet"]}
    for method in METHODS:
        words = [str(data), str(folder), "--histories", str(users), "--method", method]
        commands[method] = [sys.executable, __file__, *words]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            out = folder / f"{number}-{name}.csv"
            took = timed([*command, "--out", str(out)])
            assert len(pd.read_csv(out)) == TOP_K * n_users, f"{name} wrote too few rows"
            seconds[name].append(took)
    cores = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    table = Table(title=f"{n_users:,} users, threads: {cores}, best of {rounds}", title_justify="left")
    for column in ("", "seconds", "users/s", "flr beside it"):
        table.add_column(column, justify="right" if column else "left")
    flr = min(seconds["flr score"])
    for name, took in seconds.items():
        best = min(took)
        table.add_row(name, f"{best:.1f}", f"{n_users / best:,.0f}", f"{best / flr:.2f}")
    Console(width=120).print(table)


def timed(command: list[str]) -> float:
    """Run a command and return its seconds."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def fit(data: Path, folder: Path, *, sequential: bool = True) -> None:
    """Write what the libraries rank with into the folder; ``sequential`` too."""
    from flr_model.evaluation.tuned import fit_als

    dataset = Dataset.open(data)
    fit_als(dataset.rows("train"), len(dataset.catalog), **ALS).model.save(str(folder / "als.npz"))
    if sequential:
        import torch

        torch.save(_sasrec(len(dataset.catalog)).state_dict(), folder / "sasrec.pt")


def read(data: Path, histories: Path) -> tuple[pd.Series[str], HistoryRows, Ints]:
    """Read the users' file as a person would: ids, histories by position, and the catalogue's ids."""
    ids = pd.read_parquet(data / "items.parquet", columns=["item_id"])["item_id"].to_numpy()
    position = {str(item): place for place, item in enumerate(ids)}
    users = pd.read_csv(histories, usecols=["user_id", "history_item_id"])
    found = [[position[item] for item in re.findall(r"[^\[\], ']+", text)] for text in users["history_item_id"]]
    return users["user_id"], HistoryRows.from_lists(found), ids


def batches(rows: HistoryRows) -> Iterator[HistoryRows]:
    """Give the rows in batches."""
    for start in range(0, len(rows), BATCH):
        yield rows.select(np.arange(start, min(start + BATCH, len(rows))))


def write(best: Callable[[HistoryRows], Best], data: Path, histories: Path, out: Path) -> None:
    """Rank all users by batches and write their items."""
    users, rows, ids = read(data, histories)
    begin = 0
    for number, part in enumerate(batches(rows)):
        items, scores = best(part)
        table = {
            "user_id": np.repeat(users[begin : begin + len(part)].to_numpy(), TOP_K),
            "rank": np.tile(np.arange(1, TOP_K + 1), len(part)),
            "item_id": ids[items.ravel()],
            "score": scores.ravel(),
        }
        pd.DataFrame(table).to_csv(out, mode="a", header=number == 0, index=False)
        begin += len(part)


def als(data: Path, folder: Path, *, known: bool = False) -> Callable[[HistoryRows], Best]:
    """Rank with implicit; for users whom the model does not know their vectors are solved for."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    model = AlternatingLeastSquares.load(str(folder / "als.npz"))
    n_items = len(model.item_factors)

    def best(rows: HistoryRows) -> Best:
        cells = np.ones(len(rows.items), np.float32), rows.items, rows.offsets
        matrix = csr_matrix(cells, shape=(len(rows), n_items))
        users = np.arange(len(rows)) % len(model.user_factors)  # vectors of some users, where they are known
        items, scores = model.recommend(users, matrix, N=TOP_K, recalculate_user=not known)
        return items, scores

    return best


def sasrec(data: Path, folder: Path) -> Callable[[HistoryRows], Best]:
    """Rank with RecBole's SASRec."""
    import torch
    from library_input import right_padded
    from recbole.data.interaction import Interaction

    model = _sasrec(len(pd.read_parquet(data / "items.parquet", columns=["item_id"])))
    model.load_state_dict(torch.load(folder / "sasrec.pt"))
    model.eval()

    @torch.no_grad()
    def best(rows: HistoryRows) -> Best:
        items, lengths = map(torch.from_numpy, right_padded(rows, LENGTH))
        scores = model.full_sort_predict(Interaction({"item_id_list": items, "item_length": lengths}))[:, 1:]
        scores[torch.from_numpy(rows.row_of_item()), torch.from_numpy(rows.items)] = -torch.inf
        found = scores.topk(TOP_K)
        return found.indices.numpy(), found.values.numpy()

    return best


def _sasrec(n_items: int) -> torch.nn.Module:
    """Build RecBole's SASRec of the size that was chosen on the CDs."""
    from libraries import untrained

    return untrained("sasrec", n_items, {"hidden_size": 128, "inner_size": 512, "MAX_ITEM_LIST_LENGTH": LENGTH})


METHODS = {
    "ALS, new users (implicit)": als,
    "ALS, known users (implicit)": partial(als, known=True),
    "SASRec (RecBole)": sasrec,
}


if __name__ == "__main__":
    main()
