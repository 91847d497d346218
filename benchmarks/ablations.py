"""The ablations of docs/results.md: what the language model and each part of the method add.

Every variant changes one thing of the default recipe. Metrics are means over seeds; the difference to the default is
paired by row (NDCG@10 averaged over seeds, bootstrap over rows). The ranks of a finished run are kept in the folder, so
a stopped script goes on where it was; take a folder for each dataset. Choose on the validation rows; the test rows are
for what is settled.

usage: ablations.py DATASET [--split valid] [--seeds 3] [--epochs N] [--only NAME ...] [--targets cold]
                    [--folder ablations]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import set_seed

from flr_model.arrays import Floats
from flr_model.config import EvalConfig, ModelConfig, TrainConfig
from flr_model.data.dataset import Dataset
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.evaluation.segments import segment_masks
from flr_model.evaluation.validation import validator
from flr_model.nn.backbone import Trunk
from flr_model.progress import SILENT
from flr_model.training.readings import read_catalogue
from flr_model.training.setup import Setup, mean_embeddings, set_up
from flr_model.training.sft import fit

console = Console(width=170)
SPLITS = ("valid", "test")
GROUPS = (("popularity", "head"), ("popularity", "tail"), ("target", "cold"))


def without_trunk(setup: Setup) -> None:
    """The history is not read: states are the projected item vectors, no latent token."""
    setup.recommender.model.encoder.trunk.lm.layers = nn.ModuleList()
    setup.recommender.model.latent_tokens = 0


def random_trunk(setup: Setup) -> None:
    """The history is read by layers of the same shape with random weights."""
    randomise(setup.recommender.model.encoder.trunk.lm.layers)


def titles_without_layers(setup: Setup) -> None:
    """Item vectors from the mean token embedding of the title, no layer of any model."""
    titles = setup.dataset.catalog.texts.tolist()
    readings = []
    for reader in setup.item_encoder.readers:
        means = mean_embeddings(Trunk(reader.lm), titles, reader.tokenizer)
        readings.append(torch.stack([means] * len(reader.parts), dim=1).numpy())
    replace_titles(setup, readings)


def titles_by_a_random_model(setup: Setup) -> None:
    """Item vectors from models of the same shapes with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for reader in setup.item_encoder.readers:
            randomise(reader.lm)
    replace_titles(setup, read_catalogue(setup.item_encoder, setup.dataset.catalog.texts.tolist()))


def no_language_model(setup: Setup) -> None:
    """Neither titles nor histories are read by a layer of the language model."""
    titles_without_layers(setup)
    without_trunk(setup)


def no_reasoning(setup: Setup) -> None:
    """Factors look by recency alone, gates are the same for all users, and the thought says nothing of items."""
    reasoner, decoder = setup.recommender.model.reasoner, setup.recommender.head.decoder
    reasoner.requires_grad_(False)
    for learned in (reasoner.gate_bias, reasoner.recency):
        learned.requires_grad_(True)
    fix(reasoner.competition, 0.0)
    fix(reasoner.mass_weight, 0.0)
    fix(decoder.thought_map, 0.0)


def no_competition(setup: Setup) -> None:
    """Factors do not compete for items: all look by recency alone."""
    fix(setup.recommender.model.reasoner.competition, 0.0)


def no_generalist(setup: Setup) -> None:
    """The first factor competes as the others do."""
    fix(setup.recommender.model.reasoner.competition, 1.0)


def no_counts(setup: Setup) -> None:
    """Nothing is counted."""
    fix(setup.recommender.head.evidence.weight, 0.0)


def counts_alone(setup: Setup) -> None:
    """Factors ask for nothing in item space; they still choose what to count."""
    setup.recommender.head.decoder.requires_grad_(False)
    fix(setup.recommender.head.decoder.log_scale, -20.0)


def fix(parameter: nn.Parameter, value: float) -> None:
    """Give a parameter a value that stays."""
    with torch.no_grad():
        parameter.fill_(value)
    parameter.requires_grad_(False)


def randomise(module: nn.Module) -> None:
    """Draw all matrices of a language model anew."""
    for weight in module.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight.data, std=0.02)


def replace_titles(setup: Setup, readings: list[Floats]) -> None:
    """Give the items vectors made of other (M, R, w) readings, an array for each reader."""
    setup.item_encoder.fit(readings)
    unit = setup.item_encoder.whiten([torch.from_numpy(states) for states in readings]).detach()
    recommender = setup.recommender
    recommender.items.unit_vectors[:-1] = unit
    titles = setup.dataset.catalog.texts.tolist()
    encoder = recommender.model.encoder
    encoder.fit(unit, mean_embeddings(encoder.trunk, titles, recommender.tokenizer))


@dataclass(frozen=True)
class Variant:
    """One change of the default recipe."""

    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Setup], None] | None = None


VARIANTS = {
    "default": Variant(),
    "history not read (no trunk)": Variant(train={"tuning": "frozen"}, change=without_trunk),
    "history read by a random trunk": Variant(change=random_trunk),
    "trunk frozen": Variant(train={"tuning": "frozen"}),
    "trunk's own prediction left out": Variant(train={"forecast": 0.0}),
    "titles read by the backbone alone": Variant(model={"item_readers": "backbone"}),
    "titles without layers": Variant(change=titles_without_layers),
    "titles by a random model": Variant(change=titles_by_a_random_model),
    "no language model at all": Variant(train={"tuning": "frozen"}, change=no_language_model),
    "no latent reasoning": Variant(change=no_reasoning),
    "factors do not compete": Variant(change=no_competition),
    "no generalist": Variant(change=no_generalist),
    "no counts": Variant(change=no_counts),
    "counts alone": Variant(train={"forecast": 0.0}, change=counts_alone),
    "titles alone": Variant(train={"residual_learning_rate": 0.0}, change=no_counts),
    **{f"K = {k}": Variant(model={"n_factors": k}) for k in (1, 2, 3, 6)},
    **{f"T = {t}": Variant(model={"refine_steps": t}) for t in (1, 3)},
    **{f"N = {n}": Variant(model={"latent_tokens": n}) for n in (0, 2)},
    **{f"no {name}": Variant(train={name: 0.0}) for name in ("orthogonality", "diversity", "sparsity")},
    "no regulariser": Variant(train={"orthogonality": 0.0, "diversity": 0.0, "sparsity": 0.0}),
}


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--split", choices=SPLITS, default="valid")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="0: as the default recipe")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--targets", choices=[group for _, group in GROUPS], help="only rows of such targets")
    parser.add_argument("--folder", type=Path, default=Path("ablations"))
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    ranks: dict[str, list[Any]] = {name: [] for name in dict.fromkeys(["default", *arguments.only])}
    for seed in range(arguments.seeds):
        for name, runs in ranks.items():
            file = arguments.folder / f"{name.replace(' ', '-')}.epochs{arguments.epochs}.seed{seed}.npz"
            if not file.exists():
                np.savez(file, **run(arguments.dataset, VARIANTS[name], seed, arguments.epochs))
                shown = metrics.means(np.load(file)["valid"], (10,))
                console.print(f"{name}, seed {seed}: validation NDCG@10 {shown['NDCG@10']:.4f}", highlight=False)
            runs.append(np.load(file)[arguments.split])
    stacked = {name: np.stack(runs) for name, runs in ranks.items()}
    show(Dataset.open(arguments.dataset), arguments.split, stacked, arguments.targets)


def run(data: Path, variant: Variant, seed: int, epochs: int) -> dict[str, Any]:
    """Train one variant; return (R,) the ranks of the targets under its best epoch, by split."""
    model = replace(ModelConfig(), **variant.model)
    train = replace(TrainConfig(seed=seed, epochs=epochs), **variant.train)
    set_seed(seed)
    setup = set_up(data, model, train)
    assert setup.valid is not None
    if variant.change is not None:
        variant.change(setup)
    validate = validator(setup.recommender.recommender, setup.valid)
    train = replace(train, epochs=setup.epochs)
    with tempfile.TemporaryDirectory(prefix="flr-ablation-") as folder:
        fit(setup, train, validate=validate, folder=Path(folder), resume=False, progress=SILENT)
    present = setup.recommender.recommender()
    return {
        split: rank_rows(present, setup.dataset.rows(split), present.catalog, EvalConfig(split=split))[0]
        for split in SPLITS
    }


def show(dataset: Dataset, split: str, ranks: dict[str, Any], targets: str | None) -> None:
    """Print means over seeds, the paired difference to the default, and NDCG@10 of groups of targets."""
    masks = segment_masks(dataset.rows(split), dataset.rows("train"), len(dataset.catalog))
    groups = {group: masks[kind][group] for kind, group in GROUPS if group in masks[kind]}
    shown = np.ones(len(dataset.rows(split)), bool) if targets is None else groups[targets]
    table = Table(title=f"{shown.sum():,} {split} rows, means over seeds", title_justify="left")
    for column in ("", "HR@10", "NDCG@10", "by seed", "minus default (95 %)", *groups):
        table.add_column(column, justify="right" if column else "left")
    gain = {name: np.stack([metrics.ndcg(line, 10) for line in runs]) for name, runs in ranks.items()}
    for name, runs in ranks.items():
        hits = float(np.mean([metrics.means(line[shown], (10,))["HR@10"] for line in runs]))
        here = gain[name][:, shown]
        mean, low, high = metrics.paired_difference(here.mean(0), gain["default"][:, shown].mean(0), 2000, 0)
        table.add_row(
            name,
            f"{hits:.4f}",
            f"{here.mean():.4f}",
            " ".join(f"{value:.4f}" for value in here.mean(1)),
            "" if name == "default" else f"{mean:+.4f} ({low:+.4f} to {high:+.4f})",
            *(f"{gain[name][:, mask].mean():.4f}" for mask in groups.values()),
        )
    console.print(table)


if __name__ == "__main__":
    main()
