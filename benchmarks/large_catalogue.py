"""A bundle of a very large catalogue, and what it has to recommend: for the benchmark of scoring."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np

from flr_export.runtime import load_bundle
from flr_model.artifacts import BUNDLE, open_folder
from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.ranking.evidence import Evidence


def with_items(bundle: Path, out: Path, n_items: int, *, seed: int = 0) -> Path:
    """Copy a bundle with synthetic items behind its own.

    Their titles are made up. Reading a million titles would take hours, so their vectors are mixtures of two real ones,
    of the length that real ones have.
    """
    out.mkdir()
    for name in {*BUNDLE.files, "reader.int8.onnx"} - {"item_vectors.npy", "items.parquet", "evidence.npz"}:
        if (bundle / name).exists():
            shutil.copyfile(bundle / name, out / name)
    vectors, catalog = np.load(bundle / "item_vectors.npy"), Catalog.read(bundle / "items.parquet")
    n_new, rng = n_items - len(catalog), np.random.default_rng(seed)
    ids = [f"synthetic-{n}" for n in range(n_new)]
    catalog.extended(ids, [f"Synthetic title {n}" for n in range(n_new)]).write(out / "items.parquet")
    Evidence.read(bundle / "evidence.npz").extended(n_new).write(out / "evidence.npz")
    shape = (n_items, vectors.shape[1])
    file = np.lib.format.open_memmap(out / "item_vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    file[: len(vectors)] = vectors
    lengths = np.linalg.norm(vectors, axis=1)
    for start in range(len(vectors), n_items, 1 << 16):
        n = min(1 << 16, n_items - start)
        one, other = rng.integers(0, len(vectors), (2, n))
        share = rng.beta(0.4, 0.4, (n, 1)).astype(np.float32)
        mixed = share * vectors[one] + (1 - share) * vectors[other]
        file[start : start + n] = mixed * (lengths[one] / np.linalg.norm(mixed, axis=1))[:, None]
    file.flush()
    open_folder(bundle, BUNDLE.kind).write(out)
    return out


def top_items(recs: Path) -> dict[str, list[str]]:
    """Read the items of each user from a result."""
    found: dict[str, list[str]] = {}
    with recs.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["user_id"], []).append(row["item_id"])
    return found


def brute_force(bundle: Path, users: Path, wanted: list[str], *, threads: int) -> dict[str, list[str]]:
    """Rank all items for a few users in one plain matrix product and one sort."""
    recommender = load_bundle(bundle, threads=threads)
    with users.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["user_id"] in set(wanted)]
    items = [
        recommender.catalog.positions([str(i) for i in json.loads(row["history_item_id"])]).tolist() for row in rows
    ]
    times = [json.loads(row["history_timestamp"]) for row in rows]
    histories = HistoryRows.from_lists(items, user_id=[row["user_id"] for row in rows], times=times)
    scores = recommender.scores(histories)
    scores[histories.row_of_item(), histories.items] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return {row["user_id"]: recommender.catalog.item_ids[line].tolist() for row, line in zip(rows, best, strict=True)}
