"""The paper's claims where the paper makes them: on the decoder that writes titles, its language model alone.

K factors beside a single thought (LatentR3's form: K = 1, T = 1, no regulariser), each before and after latent GRPO
with the perplexity of the true title as reward, several seeds. The language model learns the catalogue's titles once
for all of them; then the factors of each seed and form are trained as by `flr train`, and the language model learns to
write what these expect. Figures are of the same validation rows, differences paired by row. What is finished is kept in
the folder, so a stopped script goes on where it was.

usage: title_claims.py DATASET [--seeds 3] [--rows 1000] [--writing-rows N] [--align-rows N] [--only FORM]
                       [--folder claims]
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import set_seed

from flr_cli.progress import ConsoleProgress
from flr_model.arrays import Floats
from flr_model.config import AlignConfig, EvalConfig, ModelConfig, TitleConfig, TrainConfig
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.evaluation.validation import validator
from flr_model.training.fit import fit_factors
from flr_model.training.grpo import optimise
from flr_model.training.onward import recent
from flr_model.training.setup import Setup, set_up
from flr_model.training.writing import learn_to_write, rows_stage, titles_stage

console = Console(width=150)
SINGLE: dict[str, Any] = {"orthogonality": 0.0, "diversity": 0.0, "sparsity": 0.0}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "factors": ({}, {}),
    "single thought": ({"n_factors": 1, "refine_steps": 1}, SINGLE),
}
GUIDANCE = {"factors": 1.0, "writer": 0.0}


def gains(setup: Setup, weight: float, n_rows: int) -> Floats:
    """Return (R,) NDCG@10 of validation rows, with a weight of the factors in the search."""
    assert setup.valid is not None
    recommender = setup.recommender
    recommender.config = recommender.config.with_guidance(weight)
    present = recommender.recommender()
    ranks, _ = rank_rows(present, setup.valid.subsample(n_rows), present.catalog, EvalConfig())
    return metrics.ndcg(ranks, 10)


def measure(form: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one form with one seed, align it, and return its figures."""
    of_model, of_training = FORMS[form]
    model = ModelConfig(decoder="title", title=TitleConfig(guidance=0.0), **of_model)
    train = TrainConfig(seed=seed, writing_rows=arguments.writing_rows, **of_training)
    set_seed(seed)
    setup = set_up(arguments.dataset, model, train)
    train = replace(train, epochs=setup.epochs)
    recommender = setup.recommender
    about: dict[str, Any] = {"resume": False, "progress": ConsoleProgress()}
    with tempfile.TemporaryDirectory(prefix="flr-claims-", dir=arguments.folder) as scratch:
        folder = Path(scratch)
        assert setup.valid is not None
        validate = validator(recommender.factors_recommender, setup.valid)
        fit_factors(setup, train, validate=validate, folder=folder / "factors", **about)
        writer, learned = recommender.head.writer, arguments.folder / "titles.pt"
        assert writer is not None
        if not learned.exists():
            learn_to_write(titles_stage(recommender, train), setup.writers, folder=folder, **about)
            torch.save(writer.state_dict(), learned)
        writer.load_state_dict(torch.load(learned))
        learn_to_write(rows_stage(recommender, setup.rows, train), setup.writers, folder=folder, **about)
        found = {name: gains(setup, weight, arguments.rows) for name, weight in GUIDANCE.items()}
        align = AlignConfig(seed=seed, max_rows=arguments.align_rows)
        newest = recent(setup.rows, train, arguments.align_rows)
        optimise(recommender, newest, align, None, folder=folder / "aligned", progress=about["progress"])
    for name, weight in GUIDANCE.items():
        found[f"{name}, aligned"] = gains(setup, weight, arguments.rows)
    return {name: of_rows.tolist() for name, of_rows in found.items()}


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--writing-rows", type=int)
    parser.add_argument("--align-rows", type=int, default=1000)
    parser.add_argument("--only", choices=FORMS, help="measure this form alone")
    parser.add_argument("--folder", type=Path, default=Path("claims"))
    arguments = parser.parse_args()
    logging.basicConfig(level="WARNING")
    arguments.folder.mkdir(exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {form: [] for form in FORMS}
    for seed in range(arguments.seeds):
        for form in FORMS:
            kept = arguments.folder / f"{form.replace(' ', '-')}-{seed}.json"
            if not kept.exists() and arguments.only in (None, form):
                kept.write_text(json.dumps(measure(form, seed, arguments)))
            if kept.exists():
                results[form].append(json.loads(kept.read_text()))
                show(results)


def show(results: dict[str, list[dict[str, Any]]]) -> None:
    """Print NDCG@10 of the seeds that are finished, and paired differences."""
    table = Table("NDCG@10", "factors alone", "language model alone", "beside factors", "after GRPO", "by GRPO")
    best = results["factors"]
    for form, found in results.items():
        if found:
            seeds = min(len(found), len(best))
            compared = seeds > 0 and form != "factors"
            beside = difference(found[:seeds], "writer", best[:seeds], "writer") if compared else ""
            table.add_row(
                form,
                *(", ".join(f"{np.mean(row[name]):.4f}" for row in found) for name in ("factors", "writer")),
                beside,
                ", ".join(f"{np.mean(row['writer, aligned']):.4f}" for row in found),
                difference(found, "writer, aligned", found, "writer"),
            )
    console.print(table)


def difference(one: list[dict[str, Any]], name: str, other: list[dict[str, Any]], other_name: str) -> str:
    """Write the difference of the means over seeds, paired by row, with its 95 % interval."""
    means = (np.mean([row[key] for row in rows], axis=0) for rows, key in ((one, name), (other, other_name)))
    mean, low, high = metrics.paired_difference(*means, 2000, 0)
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
