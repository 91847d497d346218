"""The paper's claims where the paper makes them: on the decoder that writes titles, its language model alone.

K factors beside a single thought (LatentR3's form: K = 1, T = 1, no regulariser), each before and after latent GRPO
with the perplexity of the true title as reward, several seeds. The language model learns the catalogue's titles once
for all of them; then the factors of each seed and form are trained as by `flr train`, and the language model learns to
write what these expect. Figures are of the same validation rows, differences paired by row. What is finished is kept in
the folder, so a stopped script goes on where it was.

usage: title_claims.py DATASET [--seeds 3] [--rows 1000] [--writing-rows N] [--align-rows N] [--folder claims]
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
from flr_model.config_io import dump_toml
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import rank_rows
from flr_model.evaluation.validation import validator
from flr_model.training.fit import fit_factors
from flr_model.training.grpo import align
from flr_model.training.setup import Setup, set_up
from flr_model.training.sft import TrainReport, finished
from flr_model.training.writing import learn_rows, learn_titles

console = Console(width=150)
SINGLE: dict[str, Any] = {"orthogonality": 0.0, "diversity": 0.0, "sparsity": 0.0}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "factors": ({}, {}),
    "single thought": ({"n_factors": 1, "refine_steps": 1}, SINGLE),
}
NOT_RUN = TrainReport("", "", 0.0, 0, 0, 0, 0, 0.0, {}, {}, {}, 0.0, "")


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
            learn_titles(recommender, train, setup.writers, folder=folder / "titles", **about)
            torch.save(writer.state_dict(), learned)
        writer.load_state_dict(torch.load(learned))
        learn_rows(recommender, setup.rows, train, setup.writers, folder=folder / "rows", **about)
        found = {
            "factors": gains(setup, 1.0, arguments.rows).tolist(),
            "writer": gains(setup, 0.0, arguments.rows).tolist(),
        }
        run = finished(setup, train, NOT_RUN)
        (folder / "run").mkdir()
        run.write(folder / "run", dump_toml([run.config, train]))
        settings = AlignConfig(seed=seed, max_rows=arguments.align_rows, valid_rows=arguments.valid_rows)
        aligned = align(folder / "run", folder / "aligned", align=settings, progress=about["progress"])
    return {**found, "before": aligned.before, "after": aligned.after}


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--writing-rows", type=int)
    parser.add_argument("--align-rows", type=int, default=1000)
    parser.add_argument("--valid-rows", type=int, default=400)
    parser.add_argument("--folder", type=Path, default=Path("claims"))
    arguments = parser.parse_args()
    logging.basicConfig(level="WARNING")
    arguments.folder.mkdir(exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {form: [] for form in FORMS}
    for seed in range(arguments.seeds):
        for form in FORMS:
            kept = arguments.folder / f"{form.replace(' ', '-')}-{seed}.json"
            if not kept.exists():
                kept.write_text(json.dumps(measure(form, seed, arguments)))
            results[form].append(json.loads(kept.read_text()))
            show(results)


def show(results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the seeds that every form has."""
    table = Table("", "seeds", "factors alone", "language model alone", "beside factors", "GRPO: before", "after")
    best = results["factors"]
    for form, found in results.items():
        if not found:
            continue
        seeds = min(len(found), len(best))
        one, other = (np.mean([row["writer"] for row in rows[:seeds]], axis=0) for rows in (found, best))
        mean, low, high = metrics.paired_difference(one, other, 2000, 0)
        table.add_row(
            form,
            str(len(found)),
            *(", ".join(f"{np.mean(row[name]):.4f}" for row in found) for name in ("factors", "writer")),
            "" if form == "factors" else f"{mean:+.4f} ({low:+.4f} to {high:+.4f})",
            *(", ".join(f"{row[name]['NDCG@10']:.4f}" for row in found) for name in ("before", "after")),
        )
    console.print(table)


if __name__ == "__main__":
    main()
