"""What training and ranking cost as rows, items and histories grow, everything else held: a table and a drawing.

The shop is synthetic: customers with a taste each, fifty purchases a customer. Item vectors are random, for reading
titles costs the same for each title. The trunk is the default backbone's first layers, frozen. Of several rounds the
fastest counts, so that other work on the machine counts little.

usage: growth.py [--plot docs/growth.svg] [--results growth.json] [--backbone smollm2-135m]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from flr_model.config import EvalConfig, ModelConfig, TrainConfig
from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.data.split import Timeline
from flr_model.evaluation.evaluate import rank_rows
from flr_model.nn.backbone import Trunk, load_backbone
from flr_model.nn.build import build_model
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.run import title_tokenizer
from flr_model.ranking.pair_events import PairEvents
from flr_model.training.objective import SftObjective
from flr_model.training.tuning import tune

console = Console(width=120)
PURCHASES = 50
"""Of each customer; all but the first are rows."""

TASTES = 50
BATCH = 64


@dataclass(frozen=True)
class Shop:
    """Sizes: training rows, items of the catalogue, items of a history."""

    rows: int = 20_000
    items: int = 4_000
    history: int = 20


AXES: dict[str, list[Shop]] = {
    "rows": [Shop(rows=n) for n in (10_000, 20_000, 40_000, 80_000)],
    "items": [Shop(items=n) for n in (2_000, 4_000, 8_000, 16_000, 32_000)],
    "history": [Shop(history=n) for n in (5, 10, 20, 40)],
}


@dataclass(frozen=True)
class Cost:
    """Seconds to count the pairs of all rows, MiB of these, and milliseconds a row of training and of ranking."""

    counting_s: float
    counts_mib: float
    training_ms: float
    ranking_ms: float


def rows_of(shop: Shop, *, seed: int = 0) -> HistoryRows:
    """Make the training rows: each customer buys from one taste, popular items more often."""
    rng, users = np.random.default_rng(seed), -(-shop.rows // (PURCHASES - 1))
    user = np.repeat(np.arange(users), PURCHASES)
    rank = (shop.items // TASTES * rng.power(0.5, len(user))).astype(np.int64)
    item = rank * TASTES + rng.integers(TASTES, size=users).repeat(PURCHASES)
    index = np.tile(np.arange(PURCHASES), users)
    timeline = Timeline(user, item, (1 + index) * 10**6 * 86_400, np.arange(len(user)), index)
    targets = np.flatnonzero(index > 0)[: shop.rows]
    return timeline.rows(targets, np.arange(users).astype(str), np.arange(shop.items), shop.history)


def untrained(shop: Shop, events: PairEvents, backbone: str) -> TrainableRecommender:
    """Build the default model over random item vectors."""
    model = ModelConfig(backbone=backbone, max_history=shop.history, item_readers="backbone")
    model, train = replace(model, layers=model.layers_read), TrainConfig()
    names = np.asarray([f"item {n}" for n in range(shop.items)], object)
    catalog = Catalog(names, names)
    lm = load_backbone(model.backbone, layers=model.layers)
    tokenizer = title_tokenizer(lm, model)
    network = build_model(model, Trunk(lm.lm), tokenizer, n_lags=len(events.lag_bounds) + 1, writing_model=_no_writer)
    vectors = F.normalize(torch.randn(shop.items, model.embedding_size, generator=torch.Generator().manual_seed(0)))
    network.model.reasoner.fit(vectors, seed=0)
    tune(network.model, "frozen", train.lora_rank)
    network.head.attach(catalog, tokenizer, events, train)
    return TrainableRecommender(model, catalog, network, vectors, tokenizer)


def _no_writer() -> Any:
    raise AssertionError("the catalog decoder has no writer")


def cost(shop: Shop, *, backbone: str = "smollm2-135m", rounds: int = 5, n_ranked: int = 256) -> Cost:
    """Measure one shop."""
    rows = rows_of(shop)
    began = time.perf_counter()
    events = PairEvents.count(rows, shop.items)
    counting = time.perf_counter() - began
    arrays = [value for value in vars(events).values() if isinstance(value, np.ndarray)]
    recommender = untrained(shop, events, backbone)
    full = rows.select(np.flatnonzero(rows.lengths == shop.history))
    objective, rng = SftObjective(recommender, TrainConfig()), np.random.default_rng(0)

    def step() -> None:
        batch = recommender.encode(full.select(rng.integers(len(full), size=BATCH)), training=True)
        objective(batch)["loss"].backward()
        objective.zero_grad()

    ranked, ready = full.subsample(n_ranked), recommender.recommender()
    return Cost(
        counting_s=counting,
        counts_mib=sum(array.nbytes for array in arrays) / 2**20,
        training_ms=1000 * _fastest(step, rounds) / BATCH,
        ranking_ms=1000
        * _fastest(lambda: rank_rows(ready, ranked, recommender.catalog, EvalConfig()), rounds)
        / len(ranked),
    )


def _fastest(call: Callable[[], object], rounds: int) -> float:
    """Return the least seconds of some rounds, after one that does not count."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def exponent(sizes: list[int], costs: list[float]) -> float:
    """Return b of cost ~ size^b, by least squares of the logarithms; 1 is linear, 0 constant."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def draw(found: dict[str, list[tuple[Shop, Cost]]], path: Path) -> None:
    """Draw costs against sizes, both logarithmic, one panel an axis."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "flr"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(11, 3.4), layout="constrained")
    names = {
        "counting_s": "counting all rows, s",
        "training_ms": "training, ms a row",
        "ranking_ms": "ranking, ms a row",
    }
    for panel, (axis, points) in zip(panels, found.items(), strict=True):
        sizes = [getattr(shop, axis) for shop, _ in points]
        for field, name in names.items():
            panel.loglog(sizes, [getattr(cost, field) for _, cost in points], marker="o", label=name)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        panel.set_xticks([], minor=True)
        panel.set_xlabel({"rows": "training rows", "items": "items", "history": "items of a history"}[axis])
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure every axis, print a line a shop, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--backbone", default="smollm2-135m")
    given = parser.parse_args()
    measured: dict[Shop, Cost] = {}
    for shop in dict.fromkeys(shop for shops in AXES.values() for shop in shops):
        measured[shop] = cost(shop, backbone=given.backbone)
        console.print(f"{shop}: {measured[shop]}", highlight=False)
    found = {axis: [(shop, measured[shop]) for shop in shops] for axis, shops in AXES.items()}
    table = Table("grows", "from", "to", "counting s", "counts MiB", "training ms a row", "ranking ms a row")
    for axis, points in found.items():
        sizes = [getattr(shop, axis) for shop, _ in points]
        cells = []
        for field in Cost.__dataclass_fields__:
            values = [getattr(cost, field) for _, cost in points]
            cells.append(f"{values[0]:.3g} to {values[-1]:.3g}, ^{exponent(sizes, values):.2f}")
        table.add_row(axis, f"{sizes[0]:,}", f"{sizes[-1]:,}", *cells)
    console.print(table)
    if given.results is not None:
        lines = [{**asdict(shop), **asdict(found_cost)} for shop, found_cost in measured.items()]
        given.results.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")
    if given.plot is not None:
        draw(found, given.plot)


if __name__ == "__main__":
    main()
